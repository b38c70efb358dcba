// The configuration: what is in effect, whether the file says so too, what applying it would change.

import { useState } from "preact/hooks";
import type { OverviewView, Reloaded, VipView } from "../api.ts";
import { useSession } from "../app.tsx";
import { call } from "../client.ts";
import { ago, clock } from "../format.ts";
import { useAsked } from "../hooks.ts";
import { may } from "../session.ts";
import { Confirm, Empty, Figure, Panel, Pill, type Wish } from "../ui/kit.tsx";
import { t } from "../words/index.ts";

export interface FileView {
  path: string;
  text?: string | null;
  sha256?: string | null;
  in_effect: boolean;
  error?: string | null;
}

/** Whether the nodes of a virtual IP serve by the same file, as far as they should. */
function Nodes({ name }: { name: string }) {
  const vips = useAsked(() => call<VipView[]>("GET", "v1/vips"), 5000, "vips");
  // One of each, or a node of two families would be there twice; and it is heard once for each virtual IP.
  const routers = vips.value?.flatMap((vip) => vip.routers.slice(0, 1)) ?? [];
  const peers = [...new Map(routers.flatMap((router) => router.peers).map((peer) => [peer.address, peer])).values()];
  const own = routers.find((router) => router.shared_sum != null)?.shared_sum;
  if (own == null || peers.length === 0) return null;
  return (
    <Panel title={t("config.nodes")}>
      <p class="mute">{t("config.nodes.sum")}</p>
      <ul class="cards" id="nodes">
        <li class="row"><span>{name}</span> <span class="mono">{own}</span> <span class="mute">{t("config.nodes.this")}</span></li>
        {peers.map((peer) => (
          <li key={peer.address} class="row">
            <span>{peer.address}</span> <span class="mono">{peer.shared_sum ?? "–"}</span>
            {peer.shared_sum == null ? <span class="mute">{t("config.nodes.silent")}</span>
              : peer.differs_since == null ? <Pill word="healthy" text={t("config.nodes.same")} />
              : <Pill word="warning" text={t("config.nodes.differs", { at: clock(peer.differs_since) })} />}
          </li>
        ))}
      </ul>
    </Panel>
  );
}

export function Config({ view }: { view: OverviewView }) {
  const node = view.node;
  const file = useAsked(() => call<FileView>("GET", "v1/config/file"), 10_000, node.config_sha256);
  const [checked, setChecked] = useState<{ changes?: string[]; error?: string } | null>(null);
  const [wish, ask] = useState<Wish | null>(null);
  const admin = may(useSession(), "admin");
  const check = async () => {
    try {
      setChecked({ changes: (await call<Reloaded>("POST", "v1/reload?dry_run=true")).changes });
    } catch (refusal) {
      setChecked({ error: refusal instanceof Error ? refusal.message : String(refusal) });
    }
  };
  const apply = () => ask({
    title: t("act.of", { verb: t("act.reload"), name: node.config_path }),
    what: [t("config.apply.what"), checked?.changes ? <Changes changes={checked.changes} /> : null],
    verb: t("act.reload"),
    // Refused if somebody else changed something since the differences were shown.
    go: () => call("POST", "v1/reload", undefined, { "if-match": `"${node.revision}"` }),
  });
  return (
    <>
      <div class="title"><h1>{t("nav.config")}</h1><span class="mono mute">{node.config_path}</span></div>
      {node.last_reload?.error && <><p class="note bad">{t("config.refused")}</p><pre class="log" tabIndex={0}>{node.last_reload.error}</pre></>}
      <dl class="figures">
        <Figure label={t("config.revision", { n: "" }).trim()} value={String(node.revision)} />
        <Figure label="SHA-256" value={node.config_sha256.slice(0, 12)} />
        <Figure label={t("config.last", { at: "" }).trim()} value={clock(node.last_reload?.at)} note={ago(node.last_reload?.at, view.at)} />
      </dl>
      <Panel
        title={t("act.check")}
        side={admin && (
          <>
            <button type="button" onClick={() => void check()}>{t("act.check")}</button>
            <button type="button" class="primary" disabled={!checked?.changes || checked.changes.length === 0} onClick={apply}>{t("act.reload")}</button>
          </>
        )}
      >
        <div aria-live="polite">
          {!checked && <Empty>{t("config.check.what")}</Empty>}
          {checked?.error && <><p class="note bad">{t("config.refused")}</p><pre class="log" tabIndex={0}>{checked.error}</pre></>}
          {checked?.changes && (checked.changes.length === 0 ? <Empty>{t("config.same")}</Empty> : <><p>{t("config.checked")}</p><Changes changes={checked.changes} /></>)}
        </div>
      </Panel>
      <Nodes name={node.name} />
      <Versions current={node.config_sha256} revision={node.revision} over={file.value?.sha256 ?? null} admin={admin} ask={ask} />
      <Panel title={t("config.file")} side={file.value && !file.value.in_effect && <Pill word="warning" text={t("config.differs")} />}>
        {file.error && <p class="note bad">{file.error}</p>}
        {file.value?.error && <p class="note bad">{file.value.error}</p>}
        {file.value?.text != null && <pre class="log file" tabIndex={0} aria-label={t("config.file")}><Toml text={file.value.text} /></pre>}
      </Panel>
      {wish && <Confirm wish={wish} close={(done) => { ask(null); if (done) { setChecked(null); file.again(); } }} />}
    </>
  );
}

interface Version {
  at: number;
  sha256: string;
  bytes: number;
  in_effect: boolean;
}

/** What was in effect before, and can be again. */
function Versions({ current, revision, over, admin, ask }: { current: string; revision: number; over: string | null; admin: boolean; ask: (wish: Wish) => void }) {
  const versions = useAsked(() => call<Version[]>("GET", "v1/config/versions"), 0, `${current}/${revision}`);
  const [refused, setRefused] = useState<string | null>(null);
  const back = async (version: Version) => {
    const name = `${version.sha256.slice(0, 12)}, ${clock(version.at)}`;
    try {
      const { text } = await call<{ text: string }>("GET", `v1/config/versions/${version.sha256}`);
      const body = { text, over };
      const { changes } = await call<Reloaded>("PUT", "v1/config/file?dry_run=true", body);
      setRefused(null);
      ask({
        title: t("act.of", { verb: t("config.back"), name }),
        what: [t("config.back.what"), <Changes changes={changes} />],
        verb: t("config.back"),
        go: () => call("PUT", "v1/config/file", body, { "if-match": `"${revision}"` }),
      });
    } catch (refusal) {
      setRefused(refusal instanceof Error ? refusal.message : String(refusal));
    }
  };
  return (
    <Panel title={t("config.versions")}>
      {versions.error && <p class="note warn">{versions.error}</p>}
      {refused && <pre class="log" tabIndex={0} role="alert">{refused}</pre>}
      {versions.value?.length === 0 && <Empty>{t("config.versions.none")}</Empty>}
      <ul class="cards versions">
        {versions.value?.map((version) => (
          <li key={version.sha256} class="row">
            <time>{clock(version.at)}</time> <span class="mono">{version.sha256.slice(0, 12)}</span>
            {version.in_effect && <Pill word="ok" text={t("config.ineffect")} />}
            <span class="space" />
            {admin && !version.in_effect && <button type="button" onClick={() => void back(version)}>{t("config.back")}</button>}
          </li>
        ))}
      </ul>
    </Panel>
  );
}

export function Changes({ changes }: { changes: string[] }) {
  return <ul class="changes">{changes.map((change, i) => <li key={i} class="mono">{change}</li>)}</ul>;
}

/** Tables, comments and keys set apart, so that the eye finds its way. */
function Toml({ text }: { text: string }) {
  return (
    <>
      {text.split("\n").map((line, i) => {
        const kind = /^\s*#/.test(line) ? "comment" : /^\s*\[/.test(line) ? "table" : undefined;
        return <span key={i} class={kind}>{line}{"\n"}</span>;
      })}
    </>
  );
}
