// How a pool is scaled: what is wanted, what is there, why, and what can be done about it.

import { useState } from "preact/hooks";
import type { EventsView, HistoryPage, OverviewView, PoolOverview, ScalingItem, ScalingOverview } from "../api.ts";
import { call, part } from "../client.ts";
import { ago, clock } from "../format.ts";
import { before, ofPool, together } from "../history.ts";
import { useAsked } from "../hooks.ts";
import { Chart, type Mark } from "../ui/chart.tsx";
import { Empty, Figure, Menu, Panel, Pill, place, type Wish } from "../ui/kit.tsx";
import { t } from "../words/index.ts";

interface Props {
  name: string;
  pool: PoolOverview;
  scaling: ScalingOverview;
  view: OverviewView;
  ask: (wish: Wish) => void;
  operate: boolean;
}

/** Decisions that are listed. */
const STEPS_MAX = 30;

export function Scaling({ name, pool, scaling, view, ask, operate }: Props) {
  const path = `v1/scaling/${part(name)}`;
  const detail = useAsked(() => call<ScalingItem>("GET", path), 3000, name);
  const decisions = useDecisions(name);
  const earlier = useEarlier(name);
  const points = [...before(earlier.value ?? [], ofPool(name)), ...ofPool(name)];
  const marks: Mark[] = decisions.map((step) => ({ at: step.at, text: step.text }));
  const acts = operate && view.leads;
  const side = acts && (
    <>
      <button type="button" onClick={() => ask(resize(name, path, scaling))}>{t("act.scale")}</button>
      <Menu
        label={t("act.of", { verb: t("say.actions"), name: t("pool.scaling") })}
        items={[
          scaling.paused
            ? { text: t("act.resume"), go: () => ask(plain(name, "resume", `${path}/resume`)) }
            : { text: t("act.pause"), go: () => ask(plain(name, "pause", `${path}/pause`)) },
          { text: t("act.refresh"), go: () => ask(plain(name, "refresh", `${path}/refresh`)) },
        ]}
      />
    </>
  );
  return (
    <>
      <Panel title={t("pool.scaling")} side={side}>
        {!view.leads && <p class="note">{t("pool.elsewhere", { leader: view.leader ?? t("say.none") })}</p>}
        <dl class="figures">
          <Figure label={t("pool.desired")} value={String(scaling.desired)} note={t("pool.between", { min: scaling.min, max: scaling.max })} />
          <Figure label={t("word.serving")} value={String(scaling.serving)} tone={scaling.serving < scaling.desired ? "warn" : "ok"} />
          {scaling.coming > 0 && <Figure label={t("pool.coming", { n: "" }).trim()} value={String(scaling.coming)} tone="info" />}
          {scaling.going > 0 && <Figure label={t("pool.going", { n: "" }).trim()} value={String(scaling.going)} tone="info" />}
          {scaling.unhealthy > 0 && <Figure label={t("word.unhealthy")} value={String(scaling.unhealthy)} tone="bad" />}
          {scaling.warm > 0 && <Figure label={t("word.warm")} value={String(scaling.warm)} />}
        </dl>
        <p class="saying">
          {scaling.paused && <Pill word="paused" as="warn" />} {scaling.mode === "recommend" && <Pill word="recommend" as="info" text={t("pool.recommend")} />} {scaling.why}
        </p>
        {scaling.refusals.map((why) => <p key={why} class="note warn">{why}</p>)}
        <Chart
          label={t("pool.timeline")}
          height={180}
          top={scaling.max}
          marks={marks}
          at={points.map((point) => point.at)}
          lines={[
            { label: t("pool.timeline.desired"), colour: "accent", steps: true, values: points.map((point) => point.desired ?? null) },
            { label: t("pool.timeline.serving"), colour: "ok", steps: true, filled: true, values: points.map((point) => point.serving ?? null) },
            { label: t("pool.timeline.load"), colour: "off", right: true, values: points.map((point) => point.requests ?? null) },
          ]}
        />
        <div class="halves">
          <div>
            <h3>{t("pool.steps")}</h3>
            {decisions.length === 0 ? <Empty>{t("pool.steps.none")}</Empty> : (
              <ol class="steps" tabIndex={0}>
                {decisions.toReversed().map((step) => <li key={step.number}><time>{clock(step.at)}</time> {step.text}</li>)}
              </ol>
            )}
          </div>
          <div>
            <h3>{t("pool.wishes")}</h3>
            <ul class="steps" tabIndex={0}>
              {detail.value?.wishes.map((wish) => <li key={wish.policy}><strong>{wish.policy}</strong> {wish.machines ?? "–"}: {wish.why}</li>)}
            </ul>
          </div>
        </div>
      </Panel>
      <Members name={name} path={path} item={detail.value} view={view} ask={acts ? ask : null} pool={pool} />
    </>
  );
}

interface Decision {
  number: number;
  at: number;
  text: string;
}

/** How far back the timeline goes. */
const EARLIER_S = 3600;

/** How many machines served, and the load, before the page was opened: the node keeps it. Where it keeps nothing, the timeline begins now. */
function useEarlier(name: string) {
  return useAsked(async () => {
    const series = (metric: string) => call<{ points: { at: number; mean: number }[] }>("GET", `v1/history/series?metric=${metric}&pool=${part(name)}&from=${Date.now() / 1000 - EARLIER_S}`);
    const [machines, requests] = await Promise.all([series("machines"), series("requests")]);
    const { at, values } = together([machines.points, requests.points]);
    return at.map((moment, i) => ({ at: moment, serving: values[0]![i], requests: values[1]![i] }));
  }, 60_000, name);
}

/** What was decided about this pool, from the events; the newest last. Those of the process before are asked for once. */
function useDecisions(name: string): Decision[] {
  const [known] = useState(() => ({ after: 0, pid: 0, list: [] as Decision[], past: [] as Decision[] }));
  const past = useAsked(async () => {
    const page = await call<HistoryPage>("GET", `v1/history?subject=${part(name)}&from=${Date.now() / 1000 - EARLIER_S}&limit=1000`);
    return page.entries.toReversed().flatMap((entry) => decision(name, -entry.id, entry.at, entry.kind, entry.details as Record<string, string | undefined>));
  }, 0, name);
  useAsked(async () => {
    for (;;) {
      const page = await call<EventsView>("GET", `v1/events?after=${known.after}&limit=1000`);
      if (page.pid !== known.pid) Object.assign(known, { pid: page.pid, after: 0, list: [] });
      for (const event of page.events) {
        known.list.push(...decision(name, event.number, event.at, event.event, event.details as Record<string, string | undefined>));
      }
      known.list.splice(0, known.list.length - STEPS_MAX);
      known.after = page.next;
      if (page.events.length < 1000) return null;
    }
  }, 3000, name);
  const first = known.list[0]?.at ?? Infinity;
  return [...(past.value ?? []).filter((step) => step.at < first), ...known.list].slice(-STEPS_MAX);
}

function decision(name: string, number: number, at: number, kind: string, details: Record<string, string | undefined>): Decision[] {
  const { pool, reason, from, to, step, error, text } = details;
  if (pool !== name || !kind.startsWith("scaling_")) return [];
  return [{ number, at, text: kind === "scaling_decided" ? `${from} → ${to}: ${reason}` : [step, text, reason, error].filter(Boolean).join(": ") }];
}

function Members({ path, item, view, ask }: { name: string; path: string; item: ScalingItem | null; view: OverviewView; pool: PoolOverview; ask: ((wish: Wish) => void) | null }) {
  if (!item || item.members.length === 0) return null;
  const idOf = (name: string, host: string) => Object.entries(view.machines).find(([, machine]) => machine.name === name && machine.host === host)?.[0];
  return (
    <Panel title={t("pool.members")}>
      <div class="scroll" tabIndex={0} role="region" aria-label={t("pool.members")}>
        <table class="wide">
          <thead>
            <tr>
              <th scope="col">{t("col.machine")}</th>
              <th scope="col">{t("col.state")}</th>
              <th scope="col">{t("col.host")}</th>
              <th scope="col">{t("col.age")}</th>
              <th scope="col">{t("col.base")}</th>
              <th scope="col" class="num">{t("col.inflight")}</th>
              {ask && <th scope="col"><span class="unseen">{t("say.actions")}</span></th>}
            </tr>
          </thead>
          <tbody>
            {item.members.map((member) => {
              const id = idOf(member.machine, member.host);
              const verb = member.protected ? "unprotect" : "protect";
              return (
                <tr key={`${member.host}/${member.machine}`}>
                  <th scope="row">{id ? <a href={place("machine", id)!}>{member.machine}</a> : member.machine}</th>
                  <td><Pill word={member.state} /> {member.protected && <Pill word="protected" as="info" />}</td>
                  <td>{member.host}</td>
                  <td>{ago(member.since, view.at)}</td>
                  <td class="mono">{member.base}</td>
                  <td class="num">{member.in_flight}</td>
                  {ask && (
                    <td class="end">
                      <Menu
                        label={t("act.of", { verb: t("say.actions"), name: member.machine })}
                        items={[{
                          text: t(`act.${verb}`),
                          go: () => ask({
                            title: t("act.of", { verb: t(`act.${verb}`), name: member.machine }),
                            what: [t(`${verb}.what`, { name: member.machine })],
                            verb: t(`act.${verb}`),
                            go: () => call("POST", `${path}/protection`, { machine: member.machine, protected: !member.protected }),
                          }),
                        }]}
                      />
                    </td>
                  )}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </Panel>
  );
}

function plain(name: string, verb: "pause" | "resume" | "refresh", path: string): Wish {
  return { title: t("act.of", { verb: t(`act.${verb}`), name }), what: [t(`${verb}.what`)], verb: t(`act.${verb}`), go: () => call("POST", path) };
}

function resize(name: string, path: string, scaling: ScalingOverview): Wish {
  const wanted = { desired: scaling.desired };
  return {
    title: t("act.of", { verb: t("act.scale"), name }),
    what: [t("scale.what", { n: scaling.desired })],
    verb: t("act.scale"),
    children: <Resize scaling={scaling} set={(desired) => (wanted.desired = desired)} />,
    go: () => call("PUT", `${path}/desired`, wanted),
  };
}

/** Says, while the number is being chosen, what it will mean. */
function Resize({ scaling, set }: { scaling: ScalingOverview; set: (desired: number) => void }) {
  const [desired, choose] = useState(scaling.desired);
  const more = desired - scaling.desired;
  return (
    <>
      <label>{t("scale.label", { min: scaling.min, max: scaling.max })}
        <input type="number" required min={scaling.min} max={scaling.max} value={desired} onInput={(event) => { choose(event.currentTarget.valueAsNumber); set(event.currentTarget.valueAsNumber); }} />
      </label>
      <p aria-live="polite">{more > 0 ? t("scale.more", { n: more }) : more < 0 ? t("scale.fewer", { n: -more }) : t("scale.same")}</p>
    </>
  );
}
