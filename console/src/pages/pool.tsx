// One pool: what it does, its endpoints, how it is scaled, and what can be done about it.

import { useState } from "preact/hooks";
import type { EndpointOverview, OverviewView, PoolOverview } from "../api.ts";
import { useSession } from "../app.tsx";
import { call, part } from "../client.ts";
import { ago, amount, latency, percent } from "../format.ts";
import { ofPool } from "../history.ts";
import { may } from "../session.ts";
import { endpointWord, others, sum } from "../states.ts";
import { Chart } from "../ui/chart.tsx";
import { Bar, Confirm, Empty, Figure, Menu, Panel, Pill, SearchField, place, type Wish } from "../ui/kit.tsx";
import { Problems } from "./overview.tsx";
import { Past, SPANS } from "./past.tsx";
import { Scaling } from "./scaling.tsx";
import { t } from "../words/index.ts";

const PAGE = 100;

export function Pool({ name, view }: { name: string; view: OverviewView }) {
  const [wish, ask] = useState<Wish | null>(null);
  const [span, look] = useState(0);
  const operate = may(useSession(), "operate");
  const pool = view.pools[name];
  if (!pool) return <Empty>{t("app.nothing")}</Empty>;
  const all = Object.keys(pool.endpoints).length;
  const points = ofPool(name);
  const rates = pool.rates;
  return (
    <>
      <div class="title">
        <h1>{name}</h1>
        <Pill word={pool.state} />
        <span class="mute">{t("pool.balance", { how: pool.balance })} · {t("pool.floor", { n: pool.min_healthy })}</span>
      </div>
      {view.problems.some((problem) => problem.about === "pool" && problem.name === name) && (
        <Problems problems={view.problems.filter((problem) => problem.about === "pool" && problem.name === name)} />
      )}
      <dl class="figures">
        <Figure label={t("col.requests")} value={amount(rates?.requests_per_s)} />
        <Figure label={t("col.failures")} value={amount(rates?.failures_per_s)} tone={rates && rates.failures_per_s > 0 ? "bad" : undefined} />
        <Figure label={t("col.p50")} value={latency(rates?.p50_ms)} />
        <Figure label={t("col.p99")} value={latency(rates?.p99_ms)} />
        <Figure label={t("col.inflight")} value={amount(pool.in_flight)} />
        <Figure label={t("col.waiting")} value={amount(pool.waiting)} tone={pool.waiting > 0 ? "warn" : undefined} />
        <Figure label={t("col.endpoints")} value={`${pool.available}/${all}`} tone={pool.available < all ? "warn" : undefined} />
      </dl>
      <Panel
        title={t(span === 0 ? "pool.chart" : "past.title")}
        side={SPANS.map(({ key, seconds }) => <button key={key} type="button" aria-pressed={seconds === span} onClick={() => look(seconds)}>{t(key)}</button>)}
      >
        {span > 0 ? <Past pool={name} seconds={span} label={t("past.title")} /> : <Chart
          label={t("pool.chart")}
          at={points.map((point) => point.at)}
          lines={[
            { label: t("pool.chart.requests"), colour: "accent", values: points.map((point) => point.requests ?? null), filled: true },
            { label: t("pool.chart.failures"), colour: "bad", values: points.map((point) => point.failures ?? null) },
            { label: t("pool.chart.p50"), colour: "off", right: true, values: points.map((point) => point.p50 ?? null) },
            { label: t("pool.chart.p99"), colour: "warn", right: true, values: points.map((point) => point.p99 ?? null) },
          ]}
        />}
      </Panel>
      {pool.scaling && <Scaling name={name} pool={pool} scaling={pool.scaling} view={view} ask={ask} operate={operate} />}
      <Endpoints name={name} pool={pool} view={view} ask={ask} operate={operate} />
      {wish && <Confirm wish={wish} close={() => ask(null)} />}
    </>
  );
}

interface Shared {
  name: string;
  pool: PoolOverview;
  view: OverviewView;
  ask: (wish: Wish) => void;
  operate: boolean;
}

function Endpoints({ name, pool, view, ask, operate }: Shared) {
  const [search, setSearch] = useState("");
  const [rows, setRows] = useState(PAGE);
  const total = sum(Object.values(pool.endpoints).map((endpoint) => endpoint.requests_per_s));
  const wanted = search.toLowerCase();
  const order = ["unhealthy", "ejected", "unknown", "draining", "maintenance", "ramp"];
  const rank = (endpoint: EndpointOverview) => {
    const at = order.indexOf(endpointWord(endpoint));
    return at < 0 ? order.length : at;
  };
  const found = Object.entries(pool.endpoints)
    .filter(([address, endpoint]) => `${address} ${endpointWord(endpoint)} ${endpoint.why ?? ""}`.toLowerCase().includes(wanted))
    .sort(([a, x], [b, y]) => rank(x) - rank(y) || a.localeCompare(b, undefined, { numeric: true }));
  const side = (
    <>
      {Object.keys(pool.endpoints).length > 8 && <SearchField value={search} set={setSearch} label={t("say.search")} />}
      {operate && <button type="button" onClick={() => ask(addition(name))}>{t("act.add")}</button>}
    </>
  );
  return (
    <Panel title={t("pool.endpoints")} side={side}>
      {found.length === 0 ? <Empty>{t("pool.no-endpoints")}</Empty> : (
        <div class="scroll" tabIndex={0} role="region" aria-label={t("pool.endpoints")}>
          <table class="wide">
            <thead>
              <tr>
                <th scope="col">{t("col.endpoint")}</th>
                <th scope="col">{t("col.state")}</th>
                <th scope="col">{t("say.why")}</th>
                <th scope="col" class="num">{t("col.weight")}</th>
                <th scope="col" class="num">{t("col.inflight")}</th>
                <th scope="col" class="num">{t("col.requests")}</th>
                <th scope="col" class="num">{t("col.failures")}</th>
                <th scope="col">{t("col.share")}</th>
                <th scope="col">{t("col.since")}</th>
                {operate && <th scope="col"><span class="unseen">{t("say.actions")}</span></th>}
              </tr>
            </thead>
            <tbody>
              {found.slice(0, rows).map(([address, endpoint]) => {
                const word = endpointWord(endpoint);
                const machine = endpoint.machine ? view.machines[endpoint.machine] : undefined;
                return (
                  <tr key={address}>
                    <th scope="row">
                      <span class="mono">{address}</span>
                      {machine && <small><a href={place("machine", endpoint.machine!)!}>{machine.name}</a> · {machine.host}</small>}
                    </th>
                    <td><Pill word={word} text={word === "ramp" ? t("word.ramp", { n: endpoint.ramp_percent }) : undefined} /></td>
                    <td class="why">{endpoint.why ?? endpoint.evidence ?? ""}</td>
                    <td class="num">{endpoint.weight}{endpoint.tier ? ` · ${endpoint.tier}` : ""}</td>
                    <td class="num">{amount(endpoint.in_flight)}</td>
                    <td class="num">{amount(endpoint.requests_per_s)}</td>
                    <td class={`num ${endpoint.failures_per_s ? "bad" : ""}`}>{amount(endpoint.failures_per_s ?? (endpoint.requests_per_s == null ? null : 0))}</td>
                    <td>{total > 0 ? <Bar share={(endpoint.requests_per_s ?? 0) / total} label={percent((endpoint.requests_per_s ?? 0) / total)} warn={2} bad={2} /> : "–"}</td>
                    <td>{ago(endpoint.since, view.at)}</td>
                    {operate && <td class="end"><Menu label={t("act.of", { verb: t("say.actions"), name: address })} items={actions(name, pool, address, endpoint, ask)} /></td>}
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
      {found.length > rows && <button type="button" class="quiet" onClick={() => setRows(rows + 4 * PAGE)}>{t("say.more", { n: found.length - rows })}</button>}
    </Panel>
  );
}

function actions(pool: string, state: PoolOverview, address: string, endpoint: EndpointOverview, ask: (wish: Wish) => void) {
  const path = `v1/pools/${part(pool)}/endpoints/${part(address)}`;
  const left = others(state, address);
  const n = endpoint.in_flight;
  const healthy = state.healthy - (endpoint.health === "healthy" || endpoint.health === "unchecked" ? 1 : 0);
  const takeover = left > 0 ? t("drain.left", { n: left, floor: state.min_healthy }) : null;
  const warning = left === 0 ? t("drain.last") : healthy < state.min_healthy ? t("drain.floor", { n: healthy, floor: state.min_healthy }) : null;
  const patch = (body: object) => () => call("PATCH", path, body);
  const items = [];
  if (endpoint.state !== "draining") {
    items.push({
      text: t("act.drain"),
      go: () => ask({ title: t("act.of", { verb: t("act.drain"), name: address }), what: [t("drain.what", { name: address, n }), takeover], warning, verb: t("act.drain"), go: patch({ state: "draining" }) }),
    });
  }
  if (endpoint.state !== "ready") {
    items.push({
      text: t("act.undrain"),
      go: () => ask({ title: t("act.of", { verb: t("act.undrain"), name: address }), what: [t("undrain.what", { name: address })], verb: t("act.undrain"), go: patch({ state: "ready" }) }),
    });
  }
  if (endpoint.state !== "maintenance") {
    items.push({
      text: t("act.maintenance"),
      go: () => ask({ title: t("act.of", { verb: t("act.maintenance"), name: address }), what: [t("maintenance.what", { name: address, n }), takeover], warning, verb: t("act.maintenance"), go: patch({ state: "maintenance" }) }),
    });
  }
  items.push({
    text: t("act.weight"),
    go: () => {
      const wanted = { weight: endpoint.weight };
      ask({
        title: t("act.of", { verb: t("act.weight"), name: address }),
        what: [t("weight.what", { name: address, weight: endpoint.weight })],
        verb: t("act.weight"),
        children: <NumberField label={t("weight.label")} min={1} max={1000} initial={endpoint.weight} set={(weight) => (wanted.weight = weight)} />,
        go: () => call("PATCH", path, wanted),
      });
    },
  });
  items.push({
    text: t("act.remove"),
    danger: true,
    go: () => ask({ title: t("act.of", { verb: t("act.remove"), name: address }), what: [t("remove.what", { name: address, n }), takeover], warning, danger: true, verb: t("act.remove"), go: () => call("DELETE", path) }),
  });
  return items;
}

function addition(pool: string): Wish {
  const wanted = { address: "", weight: 1 };
  return {
    title: t("act.of", { verb: t("act.add"), name: pool }),
    what: [t("add.what")],
    verb: t("act.add"),
    children: (
      <>
        <label>{t("add.address")}<input required pattern=".+:[0-9]+" placeholder="10.0.0.11:8080" onInput={(event) => (wanted.address = event.currentTarget.value.trim())} /></label>
        <NumberField label={t("weight.label")} min={1} max={1000} initial={1} set={(weight) => (wanted.weight = weight)} />
      </>
    ),
    go: () => call("POST", `v1/pools/${part(pool)}/endpoints`, wanted),
  };
}

export function NumberField({ label, min, max, initial, set }: { label: string; min: number; max: number; initial: number; set: (value: number) => void }) {
  return (
    <label>{label}
      <input type="number" required min={min} max={max} defaultValue={String(initial)} onInput={(event) => set(event.currentTarget.valueAsNumber)} />
    </label>
  );
}
