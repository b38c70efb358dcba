// What was measured before the page was opened: the node keeps it (/v1/history/series).

import { call, part } from "../client.ts";
import { together } from "../history.ts";
import { useAsked } from "../hooks.ts";
import { Chart, type Line } from "../ui/chart.tsx";
import { Empty } from "../ui/kit.tsx";
import { t, type Key } from "../words/index.ts";

interface SeriesView {
  step_s: number;
  points: { at: number; mean: number }[];
}

/** How far back one may look. */
export const SPANS: { key: Key; seconds: number }[] = [
  { key: "past.now", seconds: 0 },
  { key: "past.hour", seconds: 3600 },
  { key: "past.day", seconds: 86_400 },
  { key: "past.week", seconds: 7 * 86_400 },
];

const METRICS: { metric: string; key: Key; colour: string; right?: boolean; filled?: boolean }[] = [
  { metric: "requests", key: "pool.chart.requests", colour: "accent", filled: true },
  { metric: "latency-p50", key: "pool.chart.p50", colour: "off", right: true },
  { metric: "latency-p99", key: "pool.chart.p99", colour: "warn", right: true },
];

export function Past({ pool, seconds, label }: { pool: string; seconds: number; label: string }) {
  const past = useAsked(async () => {
    const from = Date.now() / 1000 - seconds;
    const series = await Promise.all(METRICS.map(({ metric }) => call<SeriesView>("GET", `v1/history/series?metric=${metric}&pool=${part(pool)}&from=${from}`)));
    return together(series.map(({ points }) => points));
  }, 10_000, `${pool}/${seconds}`);
  if (past.error) return <p class="note warn">{past.error}</p>;
  if (!past.value) return <Empty>{t("app.loading")}</Empty>;
  const { at, values } = past.value;
  if (at.length === 0) return <Empty>{t("past.none")}</Empty>;
  const lines: Line[] = METRICS.map(({ key, colour, right, filled }, i) => ({ label: t(key), colour, right, filled, values: values[i]! }));
  return <Chart label={label} at={at} lines={lines} />;
}
