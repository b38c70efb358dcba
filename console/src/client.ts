// Asking the API.

import type { ProblemView } from "./api.ts";
import { signedOut } from "./live.ts";

/** A refusal, with what the node says about it. */
export class Refusal extends Error {
  readonly status: number;
  constructor(status: number, detail: string) {
    super(detail);
    this.status = status;
  }
}

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** Asks, or changes something. Throws a Refusal, or whatever fetch throws when nobody answers. */
export async function call<T>(method: Method, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
  const response = await ask(method, path, body, headers);
  return (await response.json()) as T;
}

/** The same, for what is not JSON. */
export async function text(path: string): Promise<string> {
  return (await ask("GET", path)).text();
}

async function ask(method: Method, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Response> {
  const init: RequestInit = { method, cache: "no-store", headers: { ...headers } };
  const fields = init.headers as Record<string, string>;
  // A page of another site cannot send this without being asked first; the node wants it with a session's every change.
  if (method !== "GET") fields["weir-console"] = "1";
  if (body !== undefined) {
    fields["content-type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  const response = await fetch(path, init);
  if (response.ok) return response;
  if (response.status === 401 && path !== "v1/session") signedOut();
  let detail = `${response.status} ${response.statusText}`;
  try {
    detail = ((await response.json()) as ProblemView).detail;
  } catch {
    // Not from the node: a proxy in between, perhaps.
  }
  throw new Refusal(response.status, detail);
}

/** A name as part of a path. */
export const part = (name: string) => encodeURIComponent(name);
