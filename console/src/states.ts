// What a state means, from the fields that the node says it in. Pure.

import type { EndpointOverview, MachineOverview, OverviewView, PoolOverview } from "./api.ts";

/** The one word for an endpoint: what an operator wishes comes before what is observed. */
export function endpointWord(endpoint: EndpointOverview): string {
  if (endpoint.state !== "ready") return endpoint.state;
  if (endpoint.health === "unhealthy" || endpoint.health === "unknown") return endpoint.health;
  if (!endpoint.available) return endpoint.why?.startsWith("ejected") ? "ejected" : "standby";
  if (endpoint.ramp_percent != null) return "ramp";
  return endpoint.health;
}

const LETTERS: Record<string, string> = { healthy: "o", unhealthy: "b", unknown: "f", unchecked: "o", draining: "i", maintenance: "i", ejected: "w", standby: "f", ramp: "i" };

/** A letter for each endpoint, the bad first so that a cut-off row shows them. */
export function letters(pool: PoolOverview): string {
  const order = "bwifo";
  return Object.values(pool.endpoints)
    .map((endpoint) => LETTERS[endpointWord(endpoint)] ?? "f")
    .sort((a, b) => order.indexOf(a) - order.indexOf(b))
    .join("");
}

const RANKS = ["down", "below-floor", "degraded", "empty", "ok"];

/** The worst pools first, then the busiest. */
export function byNeed(a: [string, PoolOverview], b: [string, PoolOverview]): number {
  const rank = ([, pool]: [string, PoolOverview]) => RANKS.indexOf(pool.state);
  const busy = ([, pool]: [string, PoolOverview]) => pool.rates?.requests_per_s ?? 0;
  return rank(a) - rank(b) || busy(b) - busy(a) || a[0].localeCompare(b[0]);
}

/** The one word for a machine. */
export function machineWord(machine: MachineOverview): string {
  if (!machine.ours) return machine.state;
  if (machine.phase && machine.phase !== "ready") return machine.phase;
  if (machine.state !== "running") return machine.role === "warm" && machine.state === "paused" ? "warm" : machine.state;
  return machine.member ?? machine.state;
}

/** A host that answered once and does not now is worse than one whose state is merely not known. */
export const hostTone = (state: string): "ok" | "warn" | "bad" => (state === "up" ? "ok" : state === "unknown" ? "bad" : "warn");

/** How many other endpoints could take over what this one does. */
export function others(pool: PoolOverview, address: string): number {
  return Object.entries(pool.endpoints).filter(([name, endpoint]) => name !== address && endpoint.available).length;
}

export const sum = (numbers: (number | null | undefined)[]) => numbers.reduce<number>((total, n) => total + (n ?? 0), 0);

/** Whether this node, or nobody it knows, acts on machines. */
export const actsHere = (view: OverviewView) => view.leads;
