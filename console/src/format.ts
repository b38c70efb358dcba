// Numbers and times for people.

import { language, t } from "./words/index.ts";

const NONE = "–";

/** A rate or count: 0, 0.4, 12, 1.2 k, 3.4 M. */
export function amount(value: number | null | undefined): string {
  if (value == null || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1e6) return `${short(value / 1e6)} M`;
  if (size >= 1e4) return `${short(value / 1e3)} k`;
  return short(value);
}

function short(value: number): string {
  const size = Math.abs(value);
  const digits = size === 0 || size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 0.1 ? 1 : 2;
  return new Intl.NumberFormat(language(), { maximumFractionDigits: digits }).format(value);
}

/** 1.5 GiB. */
export function bytes(value: number | null | undefined): string {
  if (value == null) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${short(value)} ${units[unit]}`;
}

export const perSecond = (value: number | null | undefined) => (value == null ? NONE : `${bytes(value)}/s`);

/** 12 ms, 1.4 s. */
export function latency(ms: number | null | undefined): string {
  if (ms == null) return NONE;
  return ms >= 1000 ? `${short(ms / 1000)} s` : `${short(ms)} ms`;
}

export const percent = (share: number | null | undefined) => (share == null || !Number.isFinite(share) ? NONE : `${Math.round(share * 100)} %`);

/** How long ago, in one unit. */
export function ago(since: number | null | undefined, at: number): string {
  return since == null ? NONE : duration(Math.max(0, at - since));
}

export function duration(seconds: number): string {
  if (seconds < 90) return t("time.s", { n: Math.round(seconds) });
  if (seconds < 90 * 60) return t("time.min", { n: Math.round(seconds / 60) });
  if (seconds < 36 * 3600) return t("time.h", { n: Math.round(seconds / 3600) });
  return t("time.d", { n: Math.round(seconds / 86400) });
}

/** The time of day, with the date where it is not today's. */
export function clock(at: number | null | undefined): string {
  if (at == null) return NONE;
  const date = new Date(at * 1000);
  const today = date.toDateString() === new Date().toDateString();
  const time: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  return new Intl.DateTimeFormat(language(), today ? time : { ...time, month: "short", day: "numeric" }).format(date);
}
