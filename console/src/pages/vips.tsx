// Virtual IPs: who is master, why, and what changed.

import { useState } from "preact/hooks";
import type { OverviewView, VipView } from "../api.ts";
import { useSession } from "../app.tsx";
import { call, part } from "../client.ts";
import { ago, clock } from "../format.ts";
import { useAsked } from "../hooks.ts";
import { may } from "../session.ts";
import { Confirm, Empty, Panel, Pill, type Wish } from "../ui/kit.tsx";
import { t } from "../words/index.ts";

export function Vips({ view }: { view: OverviewView }) {
  const vips = useAsked(() => call<VipView[]>("GET", "v1/vips"), 2000, "vips");
  const [wish, ask] = useState<Wish | null>(null);
  const operate = may(useSession(), "operate");
  return (
    <>
      <div class="title"><h1>{t("nav.vips")}</h1></div>
      {vips.error && <p class="note bad">{vips.error}</p>}
      {vips.value?.length === 0 && <Empty>{t("vips.none")}</Empty>}
      {vips.value?.map((vip) => (
        <Panel
          key={vip.name}
          title={vip.name}
          side={
            <>
              <span class="mute">{vip.interface} · VRID {vip.router_id}{vip.leader ? ` · ${t("picture.leader")}` : ""}</span>
              {operate && vip.master && (
                <button type="button" onClick={() => ask({ title: t("act.of", { verb: t("act.release"), name: vip.name }), what: [t("release.what", { name: vip.name })], verb: t("act.release"), go: () => call("POST", `v1/vips/${part(vip.name)}/release`) })}>{t("act.release")}</button>
              )}
            </>
          }
        >
          <p class="mono">{vip.addresses.join("  ")}</p>
          {vip.routers.map((router) => (
            <div class="router" key={router.family}>
              <p class="saying"><Pill word={router.state} /> <strong>{router.family}</strong> {router.why}</p>
              {!router.eligible && <p class="note warn">{router.ineligible_because}</p>}
              <dl class="facts">
                <dt>{t("vips.master")}</dt>
                <dd>{router.state === "master" ? t("vips.this") : router.heard_master ? `${router.heard_master.address} (${router.heard_master.priority})` : t("vips.nobody")}</dd>
                <dt>{t("col.since")}</dt>
                <dd>{clock(router.since)} · {ago(router.since, view.at)}</dd>
                <dt>{t("vips.priority")}</dt>
                <dd>{router.priority}{router.priority === router.priority_configured ? "" : ` (${router.priority_configured})`} · {t("vips.interval", { ms: router.advertisement_interval_ms, down: router.master_down_interval_ms })}</dd>
                <dt>{t("vips.peers")}</dt>
                <dd>{router.peers.length === 0 ? t("say.none") : router.peers.map((peer) => `${peer.address} (${peer.priority}, ${t(peer.eligible ? "vips.can" : "vips.cannot")})`).join(", ")}</dd>
              </dl>
              <div class="halves">
                <div>
                  <h3>{t("vips.transitions")}</h3>
                  {router.transitions.length === 0 && <Empty>{t("vips.transitions.none")}</Empty>}
                  <ol class="steps" tabIndex={0}>
                    {router.transitions.toReversed().map((change, i) => <li key={i}><time>{clock(change.at)}</time> <Pill word={change.from} /> → <Pill word={change.to} /> {change.why}</li>)}
                  </ol>
                </div>
                <div>
                  <h3>{t("vips.counters")}</h3>
                  <dl class="facts small">
                    {Object.entries(router.counters).filter(([, n]) => n > 0).map(([name, n]) => [<dt key={name}>{name}</dt>, <dd key={`${name}=`}>{n}</dd>])}
                    {Object.entries(router.discarded).filter(([, n]) => n > 0).map(([name, n]) => [<dt key={name}>{t("vips.discarded")}: {name}</dt>, <dd key={`${name}=`} class="bad">{n}</dd>])}
                  </dl>
                </div>
              </div>
            </div>
          ))}
        </Panel>
      ))}
      {wish && <Confirm wish={wish} close={() => { ask(null); vips.again(); }} />}
    </>
  );
}
