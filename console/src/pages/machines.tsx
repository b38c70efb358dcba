// Hosts and machines: a tree by host, pool, template or label; verbs on one or many; one machine with graphs, console and screen.

import { useState } from "preact/hooks";
import type { HostOverview, MachineOverview, OperationView, OverviewView } from "../api.ts";
import { useSession } from "../app.tsx";
import { call, part, text } from "../client.ts";
import { ago, amount, bytes, clock, percent } from "../format.ts";
import { useAsked, useKept } from "../hooks.ts";
import { may } from "../session.ts";
import { hostTone, machineWord } from "../states.ts";
import { Chart } from "../ui/chart.tsx";
import { Bar, Confirm, Empty, Figure, Panel, Pill, place, SearchField, type Wish } from "../ui/kit.tsx";
import { used } from "./overview.tsx";
import { t, type Key } from "../words/index.ts";

const VERBS = ["start", "resume", "suspend", "shutdown", "stop", "reboot", "reset", "migrate", "flatten", "delete"] as const;
type Verb = (typeof VERBS)[number];
const DANGEROUS: Verb[] = ["stop", "reset", "delete"];

export function Machines({ view, place: [kind, name] }: { view: OverviewView; place: string[] }) {
  const [wish, ask] = useState<Wish | null>(null);
  const [operation, follow] = useState<number | null>(null);
  const operate = may(useSession(), "operate");
  const verb = (verb: Verb, ids: string[]) => ask(question(view, verb, ids, follow));
  const shared = { view, verb: operate && view.leads ? verb : null };
  return (
    <>
      {kind === "machine" && name ? <Machine id={name} {...shared} /> : kind === "host" && name ? <Host name={name} {...shared} /> : <Tree {...shared} />}
      {operation !== null && <Operation key={operation} id={operation} close={() => follow(null)} />}
      {wish && <Confirm wish={wish} close={() => ask(null)} />}
    </>
  );
}

interface Shared {
  view: OverviewView;
  /** Absent: nothing may be done. */
  verb: ((verb: Verb, ids: string[]) => void) | null;
}

type Group = "host" | "pool" | "template" | "label";
const GROUPS: Group[] = ["host", "pool", "template", "label"];
const GROUP_WORDS: Record<Group, Key> = { host: "col.host", pool: "col.pool", template: "col.base", label: "say.all" };

function Tree({ view, verb }: Shared) {
  const [by, group] = useKept("group", "host");
  const [search, setSearch] = useState("");
  const [chosen, choose] = useState<ReadonlySet<string>>(new Set());
  const wanted = search.toLowerCase();
  const machines = Object.entries(view.machines).filter(([, machine]) =>
    `${machine.name} ${machine.host} ${machine.pool ?? ""} ${machine.address ?? ""} ${machineWord(machine)} ${labels(machine)}`.toLowerCase().includes(wanted),
  );
  const groups = new Map<string, [string, MachineOverview][]>();
  if (by === "host") Object.keys(view.hosts).forEach((host) => groups.set(host, []));
  for (const entry of machines) {
    for (const name of names(by as Group, entry[1])) groups.set(name, [...(groups.get(name) ?? []), entry]);
  }
  const alive = [...chosen].filter((id) => view.machines[id]?.ours);
  const flip = (id: string, on: boolean) => {
    const next = new Set(chosen);
    if (on) next.add(id);
    else next.delete(id);
    choose(next);
  };
  return (
    <>
      <div class="title">
        <h1>{t("nav.machines")}</h1>
        <span class="space" />
        <SearchField value={search} set={setSearch} label={t("say.search")} />
        <label class="inline">{t("machines.group")}
          <select value={by} onChange={(event) => group(event.currentTarget.value)}>
            {GROUPS.map((group) => <option key={group} value={group}>{group === "label" ? "label" : group === "template" ? "template" : t(GROUP_WORDS[group])}</option>)}
          </select>
        </label>
      </div>
      {verb && alive.length > 0 && (
        <div class="acts" role="group" aria-label={t("machines.verbs")}>
          <strong>{t("machines.chosen", { n: alive.length })}</strong>
          {VERBS.map((name) => <button key={name} type="button" class={DANGEROUS.includes(name) ? "danger" : undefined} onClick={() => verb(name, alive)}>{t(`verb.${name}`)}</button>)}
          <button type="button" class="quiet" onClick={() => choose(new Set())}>{t("say.none")}</button>
        </div>
      )}
      {groups.size === 0 && <Empty>{t("machines.none")}</Empty>}
      {[...groups].sort(([a], [b]) => a.localeCompare(b)).map(([name, members]) => (
        <Panel key={name} title={name === "" ? t("machines.unowned") : name} side={by === "host" && view.hosts[name] ? <HostSummary name={name} host={view.hosts[name]} /> : undefined}>
          {by === "host" && view.hosts[name]?.why && <p class="note bad">{view.hosts[name].why}</p>}
          {members.length === 0 ? <Empty>{t("say.none")}</Empty> : (
            <div class="scroll" tabIndex={0} role="region" aria-label={`${t("nav.machines")}: ${name}`}>
              <table class="wide">
                <thead>
                  <tr>
                    {verb && <th scope="col"><span class="unseen">{t("machines.choose", { name: "" })}</span></th>}
                    <th scope="col">{t("col.machine")}</th>
                    <th scope="col">{t("col.state")}</th>
                    <th scope="col">{t(by === "host" ? "col.pool" : "col.host")}</th>
                    <th scope="col">{t("col.address")}</th>
                    <th scope="col">{t("col.cpu")}</th>
                    <th scope="col">{t("col.memory")}</th>
                    <th scope="col">{t("col.age")}</th>
                    <th scope="col" class="num">{t("col.base")}</th>
                  </tr>
                </thead>
                <tbody>
                  {members.sort(([, a], [, b]) => a.name.localeCompare(b.name, undefined, { numeric: true })).map(([id, machine]) => (
                    <tr key={id}>
                      {verb && <td>{machine.ours && <input type="checkbox" aria-label={t("machines.choose", { name: machine.name })} checked={chosen.has(id)} onChange={(event) => flip(id, event.currentTarget.checked)} />}</td>}
                      <th scope="row"><a href={place("machine", id)!}>{machine.name}</a></th>
                      <td><Pill word={machineWord(machine)} /> {!machine.ours && <Pill word="foreign" as="off" />} {machine.protected && <Pill word="protected" as="info" />}</td>
                      <td>{by === "host" ? (machine.pool ? <a href={place("pool", machine.pool)!}>{machine.pool}</a> : "–") : machine.host}</td>
                      <td class="mono">{machine.address ?? "–"}</td>
                      <td><Bar share={machine.cpu_share} label={percent(machine.cpu_share)} /></td>
                      <td><Bar share={machine.memory_used_bytes == null ? null : machine.memory_used_bytes / machine.memory_bytes} label={bytes(machine.memory_used_bytes ?? machine.memory_bytes)} /></td>
                      <td>{ago(machine.since, view.at)}</td>
                      <td class="num">{machine.base_generation ?? "–"}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Panel>
      ))}
    </>
  );
}

const labels = (machine: MachineOverview) => Object.entries(machine.labels).map(([key, value]) => `${key}=${value}`).join(" ");

function names(by: Group, machine: MachineOverview): string[] {
  switch (by) {
    case "host": return [machine.host];
    case "pool": return [machine.pool ?? ""];
    case "template": return [machine.template ?? ""];
    case "label": {
      const all = Object.entries(machine.labels).map(([key, value]) => `${key}=${value}`);
      return all.length > 0 ? all : [""];
    }
  }
}

function HostSummary({ name, host }: { name: string; host: HostOverview }) {
  return (
    <span class="row">
      <Pill word={host.state} as={hostTone(host.state)} />
      <Bar share={host.cpu_share} label={`${t("col.cpu")} ${percent(host.cpu_share)}`} />
      <Bar share={used(host.memory_bytes, host.memory_free_bytes)} label={`${t("col.memory")} ${percent(used(host.memory_bytes, host.memory_free_bytes))}`} />
      <a href={place("host", name)!}>{t("say.details")}</a>
    </span>
  );
}

interface Point {
  at: number;
  cpu_share: number;
  memory_bytes?: number;
  memory_free_bytes?: number | null;
  memory_used_bytes?: number | null;
  disk_read_bytes_per_s?: number;
  disk_written_bytes_per_s?: number;
  net_received_bytes_per_s?: number;
  net_sent_bytes_per_s?: number;
}

const MIB = 1024 * 1024;

function Host({ name, view }: Shared & { name: string }) {
  const points = useAsked(() => call<Point[]>("GET", `v1/hosts/${part(name)}/points`), 5000, name);
  const host = view.hosts[name];
  if (!host) return <Empty>{t("app.nothing")}</Empty>;
  const seen = points.value ?? [];
  const at = seen.map((point) => point.at);
  return (
    <>
      <div class="title"><h1>{name}</h1><Pill word={host.state} as={hostTone(host.state)} /><a href="#/machines">{t("nav.machines")}</a></div>
      {host.why && <p class="note bad">{host.why}</p>}
      <dl class="figures">
        <Figure label={t("col.cpu")} value={percent(host.cpu_share)} note={`${host.cpus}`} />
        <Figure label={t("col.memory")} value={percent(used(host.memory_bytes, host.memory_free_bytes))} note={t("machines.free", { free: bytes(host.memory_free_bytes), all: bytes(host.memory_bytes) })} />
        <Figure label={t("col.disk")} value={percent(host.storage_bytes ? used(host.storage_bytes, host.storage_free_bytes) : null)} note={t("machines.free", { free: bytes(host.storage_free_bytes), all: bytes(host.storage_bytes) })} />
        <Figure label={t("col.machines")} value={String(host.machines)} />
      </dl>
      <Panel title={t("machines.load")}>
        <Chart
          label={t("machines.load")}
          at={at}
          top={1}
          lines={[
            { label: `${t("col.cpu")} %`, colour: "accent", filled: true, values: seen.map((point) => point.cpu_share * 100) },
            { label: `${t("col.memory")} MiB`, colour: "off", right: true, values: seen.map((point) => (point.memory_free_bytes == null ? null : ((point.memory_bytes ?? 0) - point.memory_free_bytes) / MIB)) },
          ]}
        />
      </Panel>
    </>
  );
}

function Machine({ id, view, verb }: Shared & { id: string }) {
  const points = useAsked(() => call<Point[]>("GET", `v1/machines/${part(id)}/points`), 5000, id);
  const [shown, show] = useState<"console" | "screen" | null>(null);
  const machine = view.machines[id] ?? Object.values(view.machines).find((machine) => machine.name === id);
  if (!machine) return <Empty>{t("app.nothing")}</Empty>;
  const seen = points.value ?? [];
  const at = seen.map((point) => point.at);
  return (
    <>
      <div class="title">
        <h1>{machine.name}</h1><Pill word={machineWord(machine)} />{machine.protected && <Pill word="protected" as="info" />}
        <span class="mute"><a href={place("host", machine.host)!}>{machine.host}</a>{machine.pool && <> · <a href={place("pool", machine.pool)!}>{machine.pool}</a></>}</span>
      </div>
      <dl class="figures">
        <Figure label={t("col.cpu")} value={percent(machine.cpu_share)} note={`${machine.vcpus}`} />
        <Figure label={t("col.memory")} value={bytes(machine.memory_used_bytes ?? machine.memory_bytes)} note={bytes(machine.memory_bytes)} />
        <Figure label={t("col.address")} value={machine.address ?? "–"} />
        <Figure label={t("col.age")} value={ago(machine.since, view.at)} note={machine.since == null ? undefined : clock(machine.since)} />
        <Figure label={t("col.base")} value={machine.base_generation == null ? "–" : String(machine.base_generation)} note={machine.template ?? undefined} />
      </dl>
      {verb && machine.ours && (
        <div class="acts" role="group" aria-label={t("machines.verbs")}>
          {VERBS.map((name) => <button key={name} type="button" class={DANGEROUS.includes(name) ? "danger" : undefined} onClick={() => verb(name, [id])}>{t(`verb.${name}`)}</button>)}
        </div>
      )}
      <Panel title={t("machines.load")}>
        <div class="halves">
          <Chart
            label={t("col.cpu")}
            at={at}
            lines={[
              { label: `${t("col.cpu")} %`, colour: "accent", filled: true, values: seen.map((point) => point.cpu_share * 100) },
              { label: `${t("col.memory")} MiB`, colour: "off", right: true, values: seen.map((point) => (point.memory_used_bytes == null ? null : point.memory_used_bytes / MIB)) },
            ]}
          />
          <Chart
            label={t("col.disk")}
            at={at}
            lines={[
              { label: "disk ↓ KiB/s", colour: "ok", values: seen.map((point) => (point.disk_written_bytes_per_s ?? 0) / 1024) },
              { label: "disk ↑ KiB/s", colour: "warn", values: seen.map((point) => (point.disk_read_bytes_per_s ?? 0) / 1024) },
              { label: "net ↓ KiB/s", colour: "accent", values: seen.map((point) => (point.net_received_bytes_per_s ?? 0) / 1024) },
              { label: "net ↑ KiB/s", colour: "off", values: seen.map((point) => (point.net_sent_bytes_per_s ?? 0) / 1024) },
            ]}
          />
        </div>
      </Panel>
      {machine.ours && (
        <Panel
          title={shown === "screen" ? t("machines.screen") : t("machines.console")}
          side={
            <>
              <button type="button" aria-pressed={shown === "console"} onClick={() => show(shown === "console" ? null : "console")}>{t("machines.console")}</button>
              <button type="button" aria-pressed={shown === "screen"} onClick={() => show(shown === "screen" ? null : "screen")}>{t("machines.screen")}</button>
            </>
          }
        >
          {shown === "console" && <ConsoleLog id={id} />}
          {shown === "screen" && <Screen id={id} name={machine.name} />}
        </Panel>
      )}
    </>
  );
}

function ConsoleLog({ id }: { id: string }) {
  const log = useAsked(() => text(`v1/machines/${part(id)}/console`), 3000, id);
  if (log.error) return <p class="note bad">{log.error}</p>;
  return <pre class="log" tabIndex={0} aria-label={t("machines.console")}>{log.value ?? t("app.loading")}</pre>;
}

function Screen({ id, name }: { id: string; name: string }) {
  const [turn, setTurn] = useState(0);
  const [failed, setFailed] = useState(false);
  return (
    <>
      {failed ? <Empty>{t("say.none")}</Empty> : (
        <img class="screen" alt={t("machines.screen.alt", { name })} src={`v1/machines/${part(id)}/screenshot?turn=${turn}`.replace(/\?turn=.*/, turn ? `#${turn}` : "")} key={turn} onError={() => setFailed(true)} />
      )}
      <button type="button" onClick={() => { setFailed(false); setTurn(turn + 1); }}>{t("say.refresh")}</button>
    </>
  );
}

function question(view: OverviewView, verb: Verb, ids: string[], follow: (id: number) => void): Wish {
  const names = ids.map((id) => view.machines[id]?.name ?? id);
  const act = { verb, machines: ids, to: undefined as string | undefined };
  const hosts = Object.entries(view.hosts).filter(([, host]) => host.state === "up").map(([name]) => name);
  if (verb === "migrate") act.to = hosts.find((host) => ids.some((id) => view.machines[id]?.host !== host));
  return {
    title: t("act.of", { verb: t(`verb.${verb}`), name: names.length === 1 ? names[0]! : t("machines.chosen", { n: names.length }) }),
    what: [t(`verb.what.${verb}`), names.length > 1 ? <span class="mono">{names.join(", ")}</span> : null],
    verb: t(`verb.${verb}`),
    danger: DANGEROUS.includes(verb),
    children: verb === "migrate" && (
      <label>{t("machines.to")}
        <select defaultValue={act.to} onChange={(event) => (act.to = event.currentTarget.value)}>{hosts.map((host) => <option key={host}>{host}</option>)}</select>
      </label>
    ),
    go: async () => follow((await call<OperationView>("POST", "v1/machines/actions", act)).id),
  };
}

/** How far something is that was asked for, with a result for each machine. */
function Operation({ id, close }: { id: number; close: () => void }) {
  const [ended, setEnded] = useState(false);
  const operation = useAsked(async () => {
    const view = await call<OperationView>("GET", `v1/operations/${id}`);
    if (view.ended) setEnded(true);
    return view;
  }, ended ? 0 : 500, id);
  return (
    <Panel title={t("col.result")} side={<button type="button" onClick={close}>{t("say.close")}</button>}>
      {operation.error && <p class="note bad">{operation.error}</p>}
      <ul class="steps" tabIndex={0} aria-live="polite">
        {operation.value?.items.map((item, i) => (
          <li key={i}>
            {item.ended ? <Pill word={item.error ? "failing" : "ok"} text={item.error ? "✗" : "✓"} /> : <Pill word="info" text="…" />}{" "}
            <strong>{item.machine || "–"}</strong> {item.error ?? item.step}
            {item.end_bytes ? ` ${amount(((item.done_bytes ?? 0) / item.end_bytes) * 100)} %` : ""}
          </li>
        ))}
      </ul>
    </Panel>
  );
}
