// Who looks at the page, and what they may.

import { call } from "./client.ts";
import { connect, signedOut } from "./live.ts";

export type Role = "read" | "operate" | "admin";

export interface Session {
  /** Whose token it is; absent: the node asks nobody. */
  name?: string | null;
  role: Role;
  /** There is a session that can be ended. */
  session: boolean;
}

const RANKS: Role[] = ["read", "operate", "admin"];

export const may = (session: Session | null, role: Role) => session !== null && RANKS.indexOf(session.role) >= RANKS.indexOf(role);

export const ask = () => call<Session>("GET", "v1/session");

export async function signIn(token: string): Promise<void> {
  await call<Session>("POST", "v1/session", { token });
  connect();
}

export async function signOut(): Promise<void> {
  await call("DELETE", "v1/session");
  signedOut();
}
