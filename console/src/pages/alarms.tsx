// Incidents and alarms: what is the matter, who takes care, what was told to whom.

import { useState } from "preact/hooks";
import type { AlarmItem, OverviewView } from "../api.ts";
import { useSession } from "../app.tsx";
import { call, part } from "../client.ts";
import { ago, amount, clock } from "../format.ts";
import { useAsked, useKept } from "../hooks.ts";
import { may } from "../session.ts";
import { Chart } from "../ui/chart.tsx";
import { Confirm, Empty, Panel, Pill, place, type Wish } from "../ui/kit.tsx";
import { t } from "../words/index.ts";
import { Trial } from "./trial.tsx";

export function Alarms({ view }: { view: OverviewView }) {
  const [wish, ask] = useState<Wish | null>(null);
  const operate = may(useSession(), "operate");
  const [me, setMe] = useKept("name", "");
  const take = (title: string, path: string, comment: boolean) => {
    const said = { by: me, comment: "" };
    ask({
      title: t("act.of", { verb: t("act.ack"), name: title }),
      what: [t("ack.what")],
      verb: t("act.ack"),
      children: (
        <>
          <label>{t("ack.by")}<input required maxLength={100} defaultValue={me} onInput={(event) => (said.by = event.currentTarget.value)} /></label>
          {comment && <label>{t("ack.comment")}<input maxLength={200} onInput={(event) => (said.comment = event.currentTarget.value)} /></label>}
        </>
      ),
      go: async () => {
        await call("POST", path, comment ? said : { by: said.by });
        setMe(said.by);
      },
    });
  };
  const incidents = Object.entries(view.incidents).sort(([a, x], [b, y]) => Number(x.state === "resolved") - Number(y.state === "resolved") || Number(b) - Number(a));
  const order = ["alarm", "insufficient-data", "ok"];
  const alarms = Object.entries(view.alarms).sort(([a, x], [b, y]) => order.indexOf(x.state) - order.indexOf(y.state) || a.localeCompare(b));
  return (
    <>
      <div class="title"><h1>{t("nav.alarms")}</h1></div>
      <Panel title={t("alarms.incidents")}>
        {incidents.length === 0 && <Empty>{t("alarms.incidents.none")}</Empty>}
        <ul class="cards">
          {incidents.map(([id, incident]) => (
            <li key={id}>
              <div class="row">
                <Pill word={incident.state === "resolved" ? "resolved" : incident.severity} />
                <strong>#{id} {incident.summary}</strong>
                <span class="space" />
                <span class="mute">{clock(incident.started_at)}{incident.resolved_at ? ` – ${clock(incident.resolved_at)}` : ` · ${t("say.for", { time: ago(incident.started_at, view.at) })}`}</span>
                {operate && incident.state === "open" && <button type="button" onClick={() => take(`#${id}`, `v1/incidents/${id}/acknowledge`, false)}>{t("act.ack")}</button>}
              </div>
              {incident.acknowledged_by && <p class="mute">{t("alarms.by", { by: incident.acknowledged_by })}</p>}
              <More summary={t("say.details")}><Story id={id} /></More>
            </li>
          ))}
        </ul>
      </Panel>
      <Panel title={t("alarms.alarms")}>
        {alarms.length === 0 && <Empty>{t("alarms.none")}</Empty>}
        <ul class="cards">
          {alarms.map(([name, alarm]) => (
            <li key={name}>
              <div class="row">
                <Pill word={alarm.state} as={alarm.state === "alarm" && alarm.severity !== "critical" ? "warn" : undefined} />
                <strong>{name}</strong>
                <span class="mute">{alarm.pool ? <a href={place("pool", alarm.pool)!}>{alarm.watches}</a> : alarm.watches}</span>
                {alarm.quiet_because && <Pill word="quiet" as="off" />}
                <span class="space" />
                <span><strong>{amount(alarm.value)}</strong> <span class="mute">{ago(alarm.since, view.at)}</span></span>
                {operate && alarm.state === "alarm" && !alarm.acknowledged_by && <button type="button" onClick={() => take(name, `v1/alarms/${part(name)}/acknowledge`, true)}>{t("act.ack")}</button>}
              </div>
              <p class="mute">{alarm.condition}{alarm.quiet_because ? ` · ${alarm.quiet_because}` : ""}{alarm.acknowledged_by ? ` · ${t("alarms.by", { by: alarm.acknowledged_by })}` : ""}</p>
              <More summary={t("say.details")}><History name={name} /></More>
            </li>
          ))}
        </ul>
      </Panel>
      {operate && <Trial view={view} />}
      {Object.keys(view.channels).length > 0 && (
        <Panel title={t("alarms.channels")}>
          <ul class="cards">
            {Object.entries(view.channels).map(([name, channel]) => (
              <li key={name} class="row">
                <Pill word={channel.failing ? "failing" : "delivers"} text={t(channel.failing ? "channel.failing" : "channel.delivers")} />
                <strong>{name}</strong><span class="mute">{channel.kind}</span><span class="space" />
                <span class="mute">{t("channel.waiting", { n: channel.waiting })} · {t("channel.dead", { n: channel.dead })}</span>
              </li>
            ))}
          </ul>
        </Panel>
      )}
      {wish && <Confirm wish={wish} close={() => ask(null)} />}
    </>
  );
}

/** What is asked for only once somebody wants to see it. */
function More({ summary, children }: { summary: string; children: preact.ComponentChildren }) {
  const [open, setOpen] = useState(false);
  return (
    <details class="more" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{summary}</summary>
      {open && children}
    </details>
  );
}

interface StoryView {
  alarms: { key: string; severity: string; summary: string; started_at: number; ended_at: number | null }[];
  messages: { key: string; channel: string; state: string; attempts: number; title: string; created_at: number; said: string | null }[];
  recovery: { what: string; outcome: string; at: number }[];
  escalation: { name: string; taken: number; steps: number; next_at: number | null; next: string[]; stopped: boolean } | null;
}

function Story({ id }: { id: string }) {
  const story = useAsked(() => call<StoryView>("GET", `v1/incidents/${id}`), 5000, id);
  if (story.error) return <p class="note bad">{story.error}</p>;
  if (!story.value) return <Empty>{t("app.loading")}</Empty>;
  return (
    <div class="halves">
      <ul class="steps" tabIndex={0}>
        {story.value.alarms.map((alarm) => (
          <li key={alarm.key}><time>{clock(alarm.started_at)}</time> {alarm.summary} {alarm.ended_at && <span class="mute">– {clock(alarm.ended_at)}</span>}</li>
        ))}
      </ul>
      <div>
        <h3>{t("alarms.told")}</h3>
        {story.value.messages.length === 0 && <Empty>{t("say.none")}</Empty>}
        <ul class="steps" tabIndex={0}>
          {story.value.messages.map((message) => (
            <li key={`${message.channel}/${message.key}`}><time>{clock(message.created_at)}</time> <strong>{message.channel}</strong> {message.title} <span class="mute">{message.state}{message.said ? `: ${message.said}` : ""}</span></li>
          ))}
        </ul>
        {story.value.escalation && <Escalation of={story.value.escalation} />}
        {story.value.recovery.length > 0 && (
          <>
            <h3>{t("alarms.recovery")}</h3>
            <ul class="steps" tabIndex={0}>
              {story.value.recovery.map((attempt, i) => <li key={i}><time>{clock(attempt.at / 1000)}</time> <strong>{attempt.what}</strong> {attempt.outcome}</li>)}
            </ul>
          </>
        )}
      </div>
    </div>
  );
}

/** How far it is, and who is told when, unless somebody takes care. */
function Escalation({ of }: { of: NonNullable<StoryView["escalation"]> }) {
  return (
    <>
      <h3>{t("alarms.escalation", { name: of.name })}</h3>
      <p>
        {t("alarms.step", { taken: of.taken, steps: of.steps })}{" "}
        {of.stopped ? t("alarms.stopped") : of.next_at === null ? t("alarms.nonext") : t("alarms.next", { at: clock(of.next_at), who: of.next.join(", ") })}
      </p>
    </>
  );
}

function History({ name }: { name: string }) {
  const alarm = useAsked(() => call<AlarmItem>("GET", `v1/alarms/${part(name)}`), 5000, name);
  if (alarm.error) return <p class="note bad">{alarm.error}</p>;
  if (!alarm.value) return <Empty>{t("app.loading")}</Empty>;
  const { points, history } = alarm.value;
  return (
    <div class="halves">
      <div>
        <h3>{t("alarms.points")}</h3>
        <Chart label={t("alarms.points")} height={140} at={points.map((point) => point.at)} lines={[{ label: t("col.value"), colour: "accent", filled: true, values: points.map((point) => point.value ?? null) }]} />
      </div>
      <div>
        <h3>{t("alarms.history")}</h3>
        {history.length === 0 && <Empty>{t("say.none")}</Empty>}
        <ol class="steps" tabIndex={0}>
          {history.toReversed().map((change) => (
            <li key={change.at}>
              <time>{clock(change.at)}</time> <Pill word={change.to} /> {change.reason}
              {change.points.length > 0 && <div class="mute mono">{change.points.map((point) => point.value ?? "–").join("  ")}</div>}
            </li>
          ))}
        </ol>
      </div>
    </div>
  );
}
