// An alarm before it is one: tried on what was measured over the last day. Nothing is changed: the file is the operators' own.

import { useState } from "preact/hooks";
import type { AlarmItem, OverviewView } from "../api.ts";
import { call } from "../client.ts";
import { clock, duration } from "../format.ts";
import { Panel, Pill } from "../ui/kit.tsx";
import { t } from "../words/index.ts";

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
  const [definition, define] = useState(`pool   = "${pool}"\nmetric = "error-rate"\nabove  = 5\nfor    = "30s"\n`);
  const [result, setResult] = useState<{ trial?: TrialView; error?: string } | null>(null);
  const [busy, setBusy] = useState(false);
  const run = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      setResult({ trial: await call<TrialView>("POST", "v1/alarms/preview", { definition }) });
    } catch (refusal) {
      setResult({ error: refusal instanceof Error ? refusal.message : String(refusal) });
    }
    setBusy(false);
  };
  const trial = result?.trial;
  return (
    <Panel title={t("trial.title")}>
      <form class="halves trial" onSubmit={run}>
        <div>
          <p class="mute">{t("trial.what")}</p>
          <label for="definition" class="mono mute">[alarm.NAME]</label>
          <textarea id="definition" class="mono" rows={7} spellcheck={false} value={definition} onInput={(event) => define(event.currentTarget.value)} />
          <div class="buttons"><button type="submit" class="primary" disabled={busy}>{t("trial.go")}</button></div>
        </div>
        <div aria-live="polite">
          {result?.error && <pre class="log" tabIndex={0}>{result.error}</pre>}
          {trial && (
            <>
              <p><strong>{t("trial.alarms", { n: trial.alarms, engaged: trial.engagements })}</strong></p>
              <p class="mute">{t("trial.times", { alarm: duration(trial.in_alarm_s), blind: duration(trial.without_data_s) })}</p>
              {trial.missing.map((series) => <p key={series} class="note warn">{t("trial.missing", { series })}</p>)}
              <ol class="steps">
                {trial.changes.slice(-CHANGES_MAX).toReversed().map((change, i) => (
                  <li key={i}><time>{clock(change.at)}</time> <Pill word={change.to} /> {change.reason}</li>
                ))}
              </ol>
            </>
          )}
        </div>
      </form>
    </Panel>
  );
}
