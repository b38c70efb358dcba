// Who changed what, from where, and what came of it. The node keeps it so that nothing can be changed or removed unseen.

import { useState } from "preact/hooks";
import { call } from "../client.ts";
import { clock } from "../format.ts";
import { useAsked } from "../hooks.ts";
import { Empty, Pill, SearchField } from "../ui/kit.tsx";
import { t } from "../words/index.ts";
import { Tabs } from "./events.tsx";

interface AuditPage {
  records: { number: number; at: number; who: string; origin: string; act: string; subject: string; outcome: string; detail: string }[];
}

const ROWS = 500;

export function Audit() {
  const [search, setSearch] = useState("");
  const page = useAsked(() => call<AuditPage>("GET", `v1/audit?limit=${ROWS}`), 5000, "audit");
  const wanted = search.toLowerCase();
  const found = (page.value?.records ?? []).filter((record) => Object.values(record).join(" ").toLowerCase().includes(wanted));
  return (
    <>
      <div class="title"><h1>{t("events.audit")}</h1><Tabs at="audit" /><span class="space" /><SearchField value={search} set={setSearch} label={t("say.search")} /></div>
      {page.error && <p class="note warn">{page.error}</p>}
      <section class="panel" aria-label={t("events.audit")}>
        {found.length === 0 ? <Empty>{page.value ? t("events.none") : t("app.loading")}</Empty> : (
          <div class="scroll" tabIndex={0} role="region" aria-label={t("events.audit")}>
            <table class="wide events">
              <thead>
                <tr>
                  <th scope="col">{t("col.time")}</th>
                  <th scope="col">{t("audit.who")}</th>
                  <th scope="col">{t("audit.what")}</th>
                  <th scope="col">{t("audit.subject")}</th>
                  <th scope="col">{t("col.result")}</th>
                  <th scope="col">{t("say.details")}</th>
                </tr>
              </thead>
              <tbody>
                {found.map((record) => (
                  <tr key={record.number}>
                    <td><time>{clock(record.at)}</time></td>
                    <td>{record.who} <span class="mute">{record.origin}</span></td>
                    <td>{record.act}</td>
                    <td>{record.subject}</td>
                    <td>{record.outcome === "done" ? <Pill word="ok" text={t("audit.done")} /> : <span class="bad">{record.outcome}</span>}</td>
                    <td class="mono mute">{record.detail}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </section>
    </>
  );
}
