// Graphs over time.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { language } from "../words/index.ts";

export interface Line {
  label: string;
  values: (number | null)[];
  /** A custom property of style.css. */
  colour: string;
  /** On the right-hand scale. */
  right?: boolean;
  /** In steps, as a number of machines goes. */
  steps?: boolean;
  filled?: boolean;
}

/** Something that happened, drawn as a line across; its text is said beside the graph too. */
export interface Mark {
  at: number;
  text: string;
}

interface Props {
  label: string;
  at: number[];
  lines: Line[];
  marks?: Mark[];
  height?: number;
  /** At least up to here. */
  top?: number;
}

/** A colour of the style, as the canvas wants it. */
function colour(element: Element, name: string, alpha?: number): string {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  element.append(probe);
  const text = getComputedStyle(probe).color;
  probe.remove();
  return alpha === undefined ? text : text.replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);
}

/** Steps of the time axis: whole seconds and more. */
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];

/** While nobody points at a moment, the legend says what is so now. */
function newest(plot: uPlot | null) {
  const last = (plot?.data[0]?.length ?? 0) - 1;
  if (plot && last >= 0 && (plot.cursor.idx == null || (plot.cursor.left ?? -1) < 0)) plot.setLegend({ idx: last });
}

export function Chart({ label, at, lines, marks = [], height = 200, top = 0 }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef({ marks, top });
  latest.current = { marks, top };
  const shape = lines.map((line) => `${line.label}${line.right}${line.colour}`).join("|") + language();
  useEffect(() => {
    const element = box.current!;
    const draw = () => {
      plot.current?.destroy();
      const ink = colour(element, "mute");
      const axis: uPlot.Axis = { stroke: ink, grid: { stroke: colour(element, "line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
      const range = (right: boolean) => (_: uPlot, __: number | null, max: number | null): [number, number] => [0, Math.max(max ?? 0, right ? 0 : latest.current.top) * 1.1 || 1];
      plot.current = new uPlot(
        {
          width: element.clientWidth || 600,
          height,
          cursor: { y: false },
          legend: { live: true },
          scales: { y: { range: range(false) }, right: { range: range(true) } },
          axes: [
            { ...axis, size: 30, space: 80, incrs: SECONDS, values: [[3600, "{HH}:{mm}", null, null, null, null, null, null, 1], [60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
            { ...axis, size: 54 },
            ...(lines.some((line) => line.right) ? [{ ...axis, scale: "right", side: 1 as const, size: 54, grid: { show: false } }] : []),
          ],
          series: [
            { value: "{HH}:{mm}:{ss}" },
            ...lines.map((line) => ({
              label: line.label,
              scale: line.right ? "right" : "y",
              stroke: colour(element, line.colour),
              fill: line.filled ? colour(element, line.colour, 0.12) : undefined,
              width: 1.5,
              paths: line.steps ? uPlot.paths.stepped!({ align: 1 }) : undefined,
              points: { show: false },
              value: (_: uPlot, value: number | null) => (value == null ? "–" : String(Math.round(value * 1000) / 1000)),
            })),
          ],
          hooks: {
            draw: [
              (u) => {
                const context = u.ctx;
                context.save();
                context.strokeStyle = colour(element, "accent");
                context.setLineDash([3, 4]);
                for (const mark of latest.current.marks) {
                  const x = Math.round(u.valToPos(mark.at, "x", true));
                  if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
                  context.beginPath();
                  context.moveTo(x, u.bbox.top);
                  context.lineTo(x, u.bbox.top + u.bbox.height);
                  context.stroke();
                }
                context.restore();
              },
            ],
          },
        },
        data(),
        element,
      );
    };
    const data = (): uPlot.AlignedData => [at, ...lines.map((line) => line.values)];
    draw();
    const leave = () => newest(plot.current);
    element.addEventListener("mouseleave", leave, true);
    const watcher = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height }));
    watcher.observe(element);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", draw);
    document.addEventListener("weir-theme", draw);
    return () => {
      watcher.disconnect();
      element.removeEventListener("mouseleave", leave, true);
      scheme.removeEventListener("change", draw);
      document.removeEventListener("weir-theme", draw);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [shape, height]);
  useEffect(() => {
    plot.current?.setData([at, ...lines.map((line) => line.values)]);
    newest(plot.current);
  }, [at, lines]);
  // A picture says nothing to who cannot see it: the newest values are said in words.
  const last = lines.map((line) => `${line.label}: ${line.values.findLast((value) => value != null) ?? "–"}`).join(", ");
  return <div class="chart" ref={box} role="img" aria-label={`${label}. ${last}`} />;
}
