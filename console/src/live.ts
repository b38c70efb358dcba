// The node as it is, kept up to date by its stream of events (/v1/overview/stream).
//
//   connecting ──state──► live ──silence, error──► lost ──state──► live
//        └───────401──────► signed-out ◄──401────────┘
//
// A stream begins with the whole state, so nothing that was missed matters. What is shown stays while the connection is lost, and the page
// says of when it is.

import type { OverviewView } from "./api.ts";
import { remember } from "./history.ts";

export type Link = "connecting" | "live" | "lost" | "signed-out";

export interface Live {
  link: Link;
  /** Since when the link is what it is, by this browser's clock in milliseconds. */
  since: number;
  overview: OverviewView | null;
}

/** The node says something every second; after this long it is taken as gone. */
const SILENCE_MS = 5000;
const RETRY_MS = 1000;
const RETRY_MS_MAX = 10_000;
/** A page that nobody sees lets go of its stream after this long. */
const HIDDEN_MS = 60_000;

let live: Live = { link: "connecting", since: Date.now(), overview: null };
const listeners = new Set<() => void>();
let source: EventSource | null = null;
let heard = 0;
let retry = RETRY_MS;
let timer = 0;
let hidden = 0;

export const now = (): Live => live;

export function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function set(change: Partial<Live>) {
  const since = change.link !== undefined && change.link !== live.link ? Date.now() : live.since;
  live = { ...live, ...change, since };
  listeners.forEach((listener) => listener());
}

/** Applies a merge patch (RFC 7396) without changing what is already shown: what did not change stays the same object. */
export function merge(target: unknown, patch: unknown): unknown {
  if (patch === null || typeof patch !== "object" || Array.isArray(patch)) return patch;
  const merged: Record<string, unknown> = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else merged[key] = merge(merged[key], value);
  }
  return merged;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/** Begins, or begins anew. */
export function connect() {
  disconnect();
  const stream = new EventSource("v1/overview/stream");
  source = stream;
  heard = Date.now();
  stream.addEventListener("state", (event) => take(JSON.parse(event.data)));
  stream.addEventListener("change", (event) => {
    if (live.overview) take(merge(live.overview, JSON.parse(event.data)));
  });
  stream.addEventListener("error", () => {
    // A stream that only ended comes again by itself; one that was refused does not.
    if (stream.readyState === EventSource.CLOSED) void refused();
  });
}

function disconnect() {
  clearTimeout(timer);
  source?.close();
  source = null;
}

function take(overview: unknown) {
  heard = Date.now();
  retry = RETRY_MS;
  const view = overview as OverviewView;
  remember(view);
  set({ link: "live", overview: view });
}

/** Refused or unreachable: ask why, and try again unless somebody has to sign in. */
async function refused() {
  disconnect();
  let status = 0;
  try {
    status = (await fetch("v1/overview", { method: "HEAD", cache: "no-store" })).status;
  } catch {
    // Nobody answers.
  }
  if (status === 401) {
    set({ link: "signed-out" });
    return;
  }
  set({ link: live.overview ? "lost" : "connecting" });
  timer = window.setTimeout(connect, retry);
  retry = Math.min(retry * 2, RETRY_MS_MAX);
}

export function signedOut() {
  disconnect();
  set({ link: "signed-out", overview: null });
}

/** Looks after the stream: silence, a sleeping computer, a page that nobody sees. */
export function watch() {
  window.setInterval(() => {
    if (source && Date.now() - heard > SILENCE_MS) {
      if (live.link === "live") set({ link: "lost" });
      heard = Date.now();
      connect();
    }
    if (source && hidden && Date.now() - hidden > HIDDEN_MS) disconnect();
  }, 1000);
  document.addEventListener("visibilitychange", () => {
    hidden = document.hidden ? Date.now() : 0;
    if (!document.hidden && !source && live.link !== "signed-out") connect();
  });
  window.addEventListener("online", () => {
    if (live.link === "lost") connect();
  });
  connect();
}
