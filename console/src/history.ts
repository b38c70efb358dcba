// What was seen since the page was opened, for the graphs: a ring of points for each pool, and one for the node.

import type { OverviewView } from "./api.ts";

/** Ten minutes. */
const POINTS_MAX = 600;

/** Names of what a point holds. */
export const FIELDS = ["at", "requests", "failures", "p50", "p99", "inFlight", "waiting", "desired", "serving", "available"] as const;
export type Field = (typeof FIELDS)[number];
export type Point = Partial<Record<Field, number | null>> & { at: number };

const pools = new Map<string, Point[]>();
const node: Point[] = [];

/** Keeps what the graphs need of it. */
export function remember(view: OverviewView) {
  for (const [name, pool] of Object.entries(view.pools)) {
    push(ring(name), {
      at: view.at,
      requests: pool.rates?.requests_per_s ?? null,
      failures: pool.rates?.failures_per_s ?? null,
      p50: pool.rates?.p50_ms ?? null,
      p99: pool.rates?.p99_ms ?? null,
      inFlight: pool.in_flight,
      waiting: pool.waiting,
      desired: pool.scaling?.desired ?? null,
      serving: pool.scaling?.serving ?? null,
      available: pool.available,
    });
  }
  for (const name of pools.keys()) if (!view.pools[name]) pools.delete(name);
  push(node, { at: view.at, requests: view.traffic?.requests_per_s ?? null, failures: view.traffic?.errors_per_s ?? null });
}

function ring(name: string): Point[] {
  let points = pools.get(name);
  if (!points) pools.set(name, (points = []));
  return points;
}

function push(points: Point[], point: Point) {
  const last = points.at(-1);
  // A second has one point: the newest.
  if (last && last.at >= point.at) points.pop();
  points.push(point);
  if (points.length > POINTS_MAX) points.splice(0, points.length - POINTS_MAX);
}

export const ofPool = (name: string): readonly Point[] => pools.get(name) ?? [];
export const ofNode = (): readonly Point[] => node;

/** Of what the node keeps, what was before the first point seen here. Pure. */
export function before(kept: readonly Point[], seen: readonly Point[]): Point[] {
  const first = seen[0]?.at ?? Infinity;
  return kept.filter((point) => point.at < first);
}

/** Series of the same steps side by side; where one has no point it has none. Pure. */
export function together(series: { at: number; mean: number }[][]): { at: number[]; values: (number | null)[][] } {
  const at = [...new Set(series.flatMap((points) => points.map((point) => point.at)))].sort((a, b) => a - b);
  const values = series.map((points) => {
    const known = new Map(points.map((point) => [point.at, point.mean]));
    return at.map((moment) => known.get(moment) ?? null);
  });
  return { at, values };
}
