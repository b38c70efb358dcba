// An alarm before it is one: written or changed, tried on what was measured over the last day, and then saved into the file.

import { useState } from "preact/hooks";
import { alarmNames, alarmOf, isName, withAlarm } from "../alarm-text.ts";
import type { AlarmItem, OverviewView, Reloaded } from "../api.ts";
import { useSession } from "../app.tsx";
import { call } from "../client.ts";
import { clock, duration } from "../format.ts";
import { useAsked } from "../hooks.ts";
import { may } from "../session.ts";
import { Confirm, Panel, Pill, type Wish } from "../ui/kit.tsx";
import { t } from "../words/index.ts";
import { Changes, type FileView } from "./config.tsx";

interface TrialView {
  alarms: number;
  engagements: number;
  in_alarm_s: number;
  without_data_s: number;
  changes: AlarmItem["history"];
  missing: string[];
}

const CHANGES_MAX = 20;

export function Trial({ view }: { view: OverviewView }) {
  const pool = Object.keys(view.pools)[0] ?? "web";
  const fresh = `pool   = "${pool}"\nmetric = "error-rate"\nabove  = 5\nfor    = "30s"\n`;
  const admin = may(useSession(), "admin");
  const file = useAsked(() => call<FileView>("GET", "v1/config/file"), 0, view.node.config_sha256);
  const [name, setName] = useState("");
  const [definition, define] = useState(fresh);
  const [result, setResult] = useState<{ of?: string; trial?: TrialView; error?: string } | null>(null);
  const [busy, setBusy] = useState(false);
  const [wish, ask] = useState<Wish | null>(null);
  const [saved, setSaved] = useState<string | null>(null);
  const text = file.value?.text ?? null;
  const names = text === null ? [] : alarmNames(text);
  const pick = (chosen: string) => {
    setName(chosen);
    setResult(null);
    setSaved(null);
    define((chosen && text !== null && alarmOf(text, chosen)) || fresh);
  };
  const attempt = async <T,>(work: () => Promise<T>): Promise<T | undefined> => {
    setBusy(true);
    try {
      return await work();
    } catch (refusal) {
      setResult({ error: refusal instanceof Error ? refusal.message : String(refusal) });
      return undefined;
    } finally {
      setBusy(false);
    }
  };
  const run = (event: Event) => {
    event.preventDefault();
    setSaved(null);
    void attempt(async () => setResult({ of: definition, trial: await call<TrialView>("POST", "v1/alarms/preview", { definition: alone(definition, name, text) }) }));
  };
  const save = () => attempt(async () => {
    const now = await call<FileView>("GET", "v1/config/file");
    if (now.text == null || now.sha256 == null) throw new Error(now.error ?? t("trial.nofile"));
    const body = { text: withAlarm(now.text, name, definition), over: now.sha256 };
    const { changes } = await call<Reloaded>("PUT", "v1/config/file?dry_run=true", body);
    ask({
      title: t("act.of", { verb: t("trial.save"), name }),
      what: [t("trial.save.what", { path: now.path }), <Changes changes={changes} />],
      verb: t("trial.save"),
      // Refused if the file, or what is in effect, is another one by then.
      go: () => call("PUT", "v1/config/file", body, { "if-match": `"${view.node.revision}"` }),
    });
  });
  const trial = result?.trial;
  // What is saved is what was tried.
  const tried = trial !== undefined && result?.of === definition;
  return (
    <Panel title={t("trial.title")}>
      <form class="halves trial" onSubmit={run}>
        <div>
          <p class="mute">{t("trial.what")}</p>
          <div class="row">
            <label class="inline">{t("trial.which")}
              <select value={names.includes(name) ? name : ""} onChange={(event) => pick(event.currentTarget.value)}>
                <option value="">{t("trial.new")}</option>
                {names.map((one) => <option key={one} value={one}>{one}</option>)}
              </select>
            </label>
            {!names.includes(name) && (
              <label class="inline">{t("trial.name")}
                <input value={name} maxLength={63} spellcheck={false} onInput={(event) => setName(event.currentTarget.value)} />
              </label>
            )}
          </div>
          <label for="definition" class="mono mute">[alarm.{name || "NAME"}]</label>
          <textarea id="definition" class="mono" rows={8} spellcheck={false} value={definition} onInput={(event) => define(event.currentTarget.value)} />
          <div class="buttons">
            <button type="submit" class="primary" disabled={busy}>{t("trial.go")}</button>
            {admin && <button type="button" disabled={busy || !tried || !isName(name)} onClick={() => void save()}>{t("trial.save")}</button>}
          </div>
          {admin && !(tried && isName(name)) && <p class="mute">{t("trial.first")}</p>}
        </div>
        <div aria-live="polite">
          {saved && <p class="note ok">{t("trial.saved", { name: saved })}</p>}
          {result?.error && <pre class="log" tabIndex={0}>{result.error}</pre>}
          {trial && (
            <>
              <p><strong>{t("trial.alarms", { n: trial.alarms, engaged: trial.engagements })}</strong></p>
              <p class="mute">{t("trial.times", { alarm: duration(trial.in_alarm_s), blind: duration(trial.without_data_s) })}</p>
              {trial.missing.map((series) => <p key={series} class="note warn">{t("trial.missing", { series })}</p>)}
              <ol class="steps" tabIndex={0}>
                {trial.changes.slice(-CHANGES_MAX).toReversed().map((change, i) => (
                  <li key={i}><time>{clock(change.at)}</time> <Pill word={change.to} /> {change.reason}</li>
                ))}
              </ol>
            </>
          )}
        </div>
      </form>
      {wish && <Confirm wish={wish} close={(done) => { ask(null); if (done) { setSaved(name); setResult(null); file.again(); } }} />}
    </Panel>
  );
}

/** A definition whose sub-tables are named for the file, as it is tried: under whatever name the node gives it. */
function alone(definition: string, name: string, text: string | null): string {
  if (!name || text === null) return definition;
  let tried = "preview";
  while (text.includes(tried)) tried += "-";
  return definition.replaceAll(`[alarm.${name}.`, `[alarm.${tried}.`);
}
