// What is wrong, how traffic flows, and every pool.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { ListenerOverview, OverviewView, PoolOverview, ProblemItem } from "../api.ts";
import { amount, latency, percent, perSecond } from "../format.ts";
import { byNeed, hostTone, letters, sum } from "../states.ts";
import { Bar, Dots, Empty, Panel, Pill, place, Prose, SearchField, Sort, tone } from "../ui/kit.tsx";
import { layout, type Box, type Curve, type Link } from "../ui/layout.ts";
import { language, t, tOr } from "../words/index.ts";

export function Overview({ view }: { view: OverviewView }) {
  return (
    <>
      <Problems problems={view.problems} />
      <Picture view={view} />
      <Pools view={view} />
    </>
  );
}

/** What is wrong, in words, each with the next step. */
export function Problems({ problems }: { problems: ProblemItem[] }) {
  const [all, setAll] = useState(false);
  const few = 5;
  const shown = all ? problems : problems.slice(0, few);
  if (problems.length === 0) {
    return <p class="allwell"><span class="mark ok" aria-hidden="true">✓</span>{t("problems.none")}</p>;
  }
  return (
    <section class="problems" aria-label={t("problems.title")}>
      <h2>{t("problems.title")}</h2>
      <ul>
        {shown.map((problem) => <Problem key={`${problem.kind}/${problem.name}/${problem.text.length}`} problem={problem} />)}
      </ul>
      {problems.length > shown.length && <button type="button" class="quiet" onClick={() => setAll(true)}>{t("say.more", { n: problems.length - few })}</button>}
    </section>
  );
}

function Problem({ problem }: { problem: ProblemItem }) {
  const values = { ...problem.values, name: problem.name };
  // English is the node's own: only it lists every endpoint.
  const words = (prefix: string, said: string) => (language() === "en" ? said : tOr(`${prefix}.${problem.kind}`, said, values));
  const link = place(problem.about, problem.name);
  const text = words("problem", problem.text);
  return (
    <li class={tone(problem.severity)}>
      <Pill word={problem.severity} />
      <div>
        <p>{link ? <a href={link}>{text}</a> : text}</p>
        <p class="next"><Prose text={words("next", problem.next)} /></p>
      </div>
    </li>
  );
}

/** Pools that the picture has room for. */
const POOLS_MAX = 6;
const LISTENERS_MAX = 7;
const HOSTS_MAX = 6;
const NARROW = 760;

function Picture({ view }: { view: OverviewView }) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const watcher = new ResizeObserver(([entry]) => setWidth(Math.floor(entry!.contentRect.width)));
    watcher.observe(box.current!);
    return () => watcher.disconnect();
  }, []);
  const pools = Object.entries(view.pools).sort(byNeed);
  const shown = pools.slice(0, POOLS_MAX);
  const names = new Set(shown.map(([name]) => name));
  const listeners = Object.entries(view.listeners)
    .sort(([, a], [, b]) => Number(b.pools.some((pool) => names.has(pool))) - Number(a.pools.some((pool) => names.has(pool))) || rate(b) - rate(a))
    .slice(0, LISTENERS_MAX);
  const vips = Object.entries(view.vips);
  const hosts = Object.entries(view.hosts).slice(0, HOSTS_MAX);
  const narrow = width > 0 && width < NARROW;
  const placed = useMemo(() => layout(...plan(view, shown, listeners, hosts), Math.max(width, NARROW)), [view, width]);
  const at = (id: string) => {
    const spot = placed.boxes.get(id);
    return narrow || !spot ? {} : { position: "absolute" as const, left: spot.x, top: spot.y, width: spot.width, height: spot.height };
  };
  return (
    <Panel title={t("picture.title")}>
      <div class={narrow ? "picture stacked" : "picture"} ref={box} style={narrow ? {} : { height: placed.height }}>
        {!narrow && width > 0 && (
          <svg class="flows" width={width} height={placed.height} aria-hidden="true">
            {[...placed.curves, ...straight(placed)].map((curve) => (
              <g key={`${curve.from}>${curve.to}`} class={curve.rate > 0 ? "flow" : "flow still"}>
                <path d={curve.path} stroke-width={curve.width} />
                {curve.rate > 0 && <path class="drops" d={curve.path} stroke-width={Math.max(1.5, curve.width * 0.5)} />}
              </g>
            ))}
          </svg>
        )}
        {width > 0 && (
          <>
            <div class="box clients" style={at("clients")}>
              <strong>{t("picture.clients")}</strong>
              <span>{t("picture.connections", { n: amount(view.node.connections) })}</span>
              <span>{t("unit.rps", { n: amount(view.traffic?.requests_per_s) })}</span>
              <span class="mute">↓ {perSecond(view.traffic?.received_bytes_per_s)} ↑ {perSecond(view.traffic?.sent_bytes_per_s)}</span>
            </div>
            {vips.map(([name, vip]) => (
              <a class="box vip" key={`vip/${name}`} href="#/vips" style={at(`vip/${name}`)}>
                <span class="row"><strong>{name}</strong><Pill word={vip.master ? "master" : Object.values(vip.routers)[0]?.state ?? "down"} /></span>
                <span class="mute">{vip.addresses.join(", ")}</span>
              </a>
            ))}
            {listeners.map(([name, listener]) => (
              <div class="box listener" key={`listener/${name}`} style={at(`listener/${name}`)}>
                <span class="row"><strong>{name}</strong><small>{listener.tls ? `${listener.protocol} · TLS` : listener.protocol}</small></span>
                <span class="row mute"><span>{ports(listener)}</span><span>{t("unit.rps", { n: amount(listener.rates?.requests_per_s) })}</span></span>
              </div>
            ))}
            {shown.map(([name, pool]) => (
              <a class={`box pool ${tone(pool.state)}`} key={`pool/${name}`} href={place("pool", name)!} style={at(`pool/${name}`)}>
                <span class="row"><strong>{name}</strong><Pill word={pool.state} /></span>
                <span class="row mute"><span>{t("unit.rps", { n: amount(pool.rates?.requests_per_s) })}</span><span>p99 {latency(pool.rates?.p99_ms)}</span></span>
                <Dots states={letters(pool)} max={18} label={t("picture.ofs", { a: pool.available, b: Object.keys(pool.endpoints).length })} />
              </a>
            ))}
            {hosts.map(([name, host]) => (
              <a class={`box host ${hostTone(host.state)}`} key={`host/${name}`} href={place("host", name)!} style={at(`host/${name}`)}>
                <span class="row"><strong>{name}</strong>{host.state === "up" ? <small>{t("picture.machines", { n: host.machines })}</small> : <Pill word={host.state} as={hostTone(host.state)} />}</span>
                <Bar share={host.cpu_share} label={`${t("col.cpu")} ${percent(host.cpu_share)}`} />
                <Bar share={used(host.memory_bytes, host.memory_free_bytes)} label={`${t("col.memory")} ${percent(used(host.memory_bytes, host.memory_free_bytes))}`} />
              </a>
            ))}
          </>
        )}
      </div>
      {pools.length > shown.length && <p class="mute end">{t("picture.more", { n: pools.length - shown.length })}</p>}
    </Panel>
  );
}

/** The line through the place that has no box. */
function straight({ boxes, curves }: ReturnType<typeof layout>): Curve[] {
  const spot = boxes.get(PAST);
  const into = curves.find((curve) => curve.to === PAST);
  return spot && into ? [{ ...into, from: PAST, path: `M${spot.x} ${spot.y + spot.height / 2}h${spot.width}` }] : [];
}

const rate = (listener: ListenerOverview) => listener.rates?.requests_per_s ?? 0;

export function used(all: number, free: number | null | undefined): number | null {
  return free == null || all === 0 ? null : 1 - free / all;
}

function ports(listener: ListenerOverview): string {
  const [first, ...rest] = listener.binds;
  return rest.length > 0 ? `${first} +${rest.length}` : (first ?? "");
}

/** The way past the virtual IPs: a place in the picture that is nothing but a line. */
const PAST = "past";

type Named<T> = [string, T][];

function plan(view: OverviewView, pools: Named<PoolOverview>, listeners: Named<ListenerOverview>, hosts: [string, unknown][]): [Box[][], Link[]] {
  // What uses no virtual IP goes by them, not through them.
  const past = Object.keys(view.vips).length > 0 && listeners.some(([, listener]) => listener.vips.length === 0);
  const columns: Box[][] = [
    [{ id: "clients", height: 104 }],
    [...Object.keys(view.vips).map((name) => ({ id: `vip/${name}`, height: 62 })), ...(past ? [{ id: PAST, height: 20 }] : [])],
    listeners.map(([name]) => ({ id: `listener/${name}`, height: 62 })),
    pools.map(([name]) => ({ id: `pool/${name}`, height: 84 })),
    hosts.map(([name]) => ({ id: `host/${name}`, height: 84 })),
  ];
  const links: Link[] = [];
  const through = new Map<string, number>();
  for (const [name, listener] of listeners) {
    for (const vip of listener.vips) {
      links.push({ from: `vip/${vip}`, to: `listener/${name}`, rate: rate(listener) });
      through.set(vip, (through.get(vip) ?? 0) + rate(listener));
    }
    if (listener.vips.length === 0) links.push({ from: past ? PAST : "clients", to: `listener/${name}`, rate: rate(listener) });
    // Which of its pools takes how much is not counted for each listener: shared out as the pools have it.
    const busy = sum(listener.pools.map((pool) => view.pools[pool]?.rates?.requests_per_s));
    for (const pool of listener.pools) {
      const mine = view.pools[pool]?.rates?.requests_per_s ?? 0;
      links.push({ from: `listener/${name}`, to: `pool/${pool}`, rate: busy > 0 ? (rate(listener) * mine) / busy : 0 });
    }
  }
  if (past) links.push({ from: "clients", to: PAST, rate: sum(listeners.map(([, listener]) => (listener.vips.length === 0 ? rate(listener) : 0))) });
  for (const name of Object.keys(view.vips)) links.push({ from: "clients", to: `vip/${name}`, rate: through.get(name) ?? 0 });
  for (const [name, pool] of pools) {
    const on = new Map<string, number>();
    for (const endpoint of Object.values(pool.endpoints)) {
      const host = endpoint.machine ? view.machines[endpoint.machine]?.host : undefined;
      if (host) on.set(host, (on.get(host) ?? 0) + (endpoint.requests_per_s ?? 0));
    }
    for (const [host, rate] of on) links.push({ from: `pool/${name}`, to: `host/${host}`, rate });
  }
  return [columns, links];
}

type Column = "need" | "name" | "requests" | "failures" | "p99" | "inFlight" | "endpoints";
const PAGE = 50;

function Pools({ view }: { view: OverviewView }) {
  const [search, setSearch] = useState("");
  const [[by, down], sort] = useState<[Column, boolean]>(["need", true]);
  const [rows, setRows] = useState(PAGE);
  const value = ([name, pool]: [string, PoolOverview]): number | string => {
    switch (by) {
      case "requests": return pool.rates?.requests_per_s ?? -1;
      case "failures": return pool.rates?.failures_per_s ?? -1;
      case "p99": return pool.rates?.p99_ms ?? -1;
      case "inFlight": return pool.in_flight;
      case "endpoints": return Object.keys(pool.endpoints).length;
      default: return name;
    }
  };
  const compare = (a: [string, PoolOverview], b: [string, PoolOverview]) => {
    if (by === "need") return byNeed(a, b);
    const [x, y] = [value(a), value(b)];
    const order = typeof x === "number" && typeof y === "number" ? x - y : String(y).localeCompare(String(x));
    return (down ? -order : order) || a[0].localeCompare(b[0]);
  };
  const wanted = search.toLowerCase();
  const found = Object.entries(view.pools).filter(([name]) => name.toLowerCase().includes(wanted)).sort(compare);
  const head = (column: Column, text: string, num = true) => (
    <Sort by={column} now={by} down={down} set={(by, down) => sort([by, down])} num={num}>{text}</Sort>
  );
  const scaled = found.some(([, pool]) => pool.scaling);
  return (
    <Panel title={t("nav.pools")} id="pools" side={<SearchField value={search} set={setSearch} label={t("say.search")} />}>
      {found.length === 0 && <Empty>{t("say.none")}</Empty>}
      {found.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label={t("nav.pools")}>
          <table class="wide">
            <thead>
              <tr>
                {head("name", t("col.pool"), false)}
                {head("need", t("col.state"), false)}
                {head("endpoints", t("col.endpoints"), false)}
                {head("requests", t("col.requests"))}
                {head("failures", t("col.failures"))}
                {head("p99", t("col.p99"))}
                {head("inFlight", t("col.inflight"))}
                {scaled && <th scope="col" class="num">{t("col.machines")}</th>}
              </tr>
            </thead>
            <tbody>
              {found.slice(0, rows).map(([name, pool]) => (
                <tr key={name}>
                  <th scope="row"><a href={place("pool", name)!}>{name}</a></th>
                  <td><Pill word={pool.state} /></td>
                  <td>
                    <span class="row tight">
                      <Dots states={letters(pool)} max={18} label={t("picture.ofs", { a: pool.available, b: Object.keys(pool.endpoints).length })} />
                      <small class="mute">{pool.available}/{Object.keys(pool.endpoints).length}</small>
                    </span>
                  </td>
                  <td class="num">{amount(pool.rates?.requests_per_s)}</td>
                  <td class={`num ${pool.rates && pool.rates.failures_per_s > 0 ? "bad" : ""}`}>{amount(pool.rates?.failures_per_s)}</td>
                  <td class="num">{latency(pool.rates?.p99_ms)}</td>
                  <td class="num">{amount(pool.in_flight)}</td>
                  {scaled && <td class="num">{pool.scaling ? `${pool.scaling.serving} / ${pool.scaling.desired}` : ""}</td>}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {found.length > rows && <button type="button" class="quiet" onClick={() => setRows(rows + 4 * PAGE)}>{t("say.more", { n: found.length - rows })}</button>}
    </Panel>
  );
}

