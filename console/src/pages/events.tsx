// What happened: searched, and followed as it happens.

import { useEffect, useRef, useState } from "preact/hooks";
import type { EventsView, EventView } from "../api.ts";
import { call } from "../client.ts";
import { clock } from "../format.ts";
import { Empty, SearchField } from "../ui/kit.tsx";
import { t } from "../words/index.ts";

/** What the node keeps, and as many as are searched. */
const KEPT_MAX = 10_000;
const PAGE = 200;

export function Events() {
  const [events, setEvents] = useState<EventView[]>([]);
  const [search, setSearch] = useState("");
  const [kind, setKind] = useState("");
  const [follow, setFollow] = useState(true);
  const [error, setError] = useState<string | null>(null);
  const [rows, setRows] = useState(PAGE);
  const known = useRef({ after: 0, pid: 0 });
  useEffect(() => {
    let over = false;
    const look = async () => {
      while (!over) {
        try {
          const { after, pid } = known.current;
          const wait = follow && pid !== 0 ? "&wait_s=20" : "";
          const page = await call<EventsView>("GET", `v1/events?after=${after}&limit=1000${wait}`);
          if (over) return;
          if (page.pid !== pid && pid !== 0) {
            // Another process: its numbers begin again.
            known.current = { after: 0, pid: page.pid };
            setEvents([]);
            continue;
          }
          known.current = { after: page.next, pid: page.pid };
          if (page.events.length > 0) setEvents((before) => [...before, ...page.events].slice(-KEPT_MAX));
          setError(null);
          if (page.events.length < 1000 && !follow) return;
        } catch (refusal) {
          setError(refusal instanceof Error ? refusal.message : String(refusal));
          await new Promise((resolve) => setTimeout(resolve, 2000));
        }
      }
    };
    void look();
    return () => {
      over = true;
    };
  }, [follow]);
  const kinds = [...new Set(events.map((event) => event.event))].sort();
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const found = events.filter((event) => (kind === "" || event.event === kind) && words.every((word) => line(event).toLowerCase().includes(word)));
  return (
    <>
      <div class="title">
        <h1>{t("nav.events")}</h1>
        <span class="space" />
        <SearchField value={search} set={setSearch} label={t("events.search")} />
        <label class="inline">{t("events.kind")}
          <select value={kind} onChange={(event) => setKind(event.currentTarget.value)}>
            <option value="">{t("say.all")}</option>
            {kinds.map((kind) => <option key={kind}>{kind}</option>)}
          </select>
        </label>
        <label class="inline"><input type="checkbox" checked={follow} onChange={(event) => setFollow(event.currentTarget.checked)} />{t("events.follow")}</label>
      </div>
      {error && <p class="note bad">{error}</p>}
      <section class="panel" aria-label={t("nav.events")}>
        {found.length === 0 ? <Empty>{t("events.none")}</Empty> : (
          <div class="scroll" tabIndex={0} role="region" aria-label={t("nav.events")}>
            <table class="wide events">
              <thead><tr><th scope="col">{t("col.time")}</th><th scope="col">{t("col.event")}</th><th scope="col">{t("say.details")}</th></tr></thead>
              <tbody>
                {found.slice(-rows).reverse().map((event) => (
                  <tr key={event.number}>
                    <td><time>{clock(event.at)}</time></td>
                    <td><span class="mono">{event.event}</span></td>
                    <td>{details(event)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
        {found.length > rows && <button type="button" class="quiet" onClick={() => setRows(rows + 5 * PAGE)}>{t("say.more", { n: found.length - rows })}</button>}
      </section>
    </>
  );
}

/** A sentence for what happens often, as the `weir` command says it; for anything else its facts, then the sentence that it brings. */
function details(event: EventView): string {
  const d = event.details as Record<string, string | number | boolean | null | undefined>;
  const because = d.evidence ? `: ${d.evidence}` : "";
  switch (event.event) {
    case "health": return `${d.pool} ${d.endpoint} is ${d.healthy ? "healthy" : "unhealthy"}${because}`;
    case "ejected": return `${d.pool} ${d.endpoint} is ejected for ${d.for_s} s${because}`;
    case "readmitted": return `${d.pool} ${d.endpoint} is no longer ejected`;
    case "floor": return `${d.pool} is ${d.below ? "below" : "back at"} its floor: ${d.healthy} healthy of at least ${d.min_healthy}`;
    case "endpoint_changed": return `${d.pool} ${d.endpoint}: ${d.change} (revision ${d.revision})`;
    case "api_change": return `${d.by}: ${d.request} was ${Number(d.status) < 300 ? "done" : `refused (${d.status})`}`;
    case "signed_in": return `${d.name} signed in from ${d.from}, role ${d.role}`;
    case "token_refused": return `a wrong token from ${d.from}, the ${d.tries}th`;
    case "alarm_changed": return `${d.alarm}: ${d.from} became ${d.to}: ${d.reason}`;
    case "vip_state": return `${d.vip} (${d.family}): ${d.from} became ${d.to}: ${d.reason}`;
  }
  const said = ["reason", "text", "step", "change", "evidence", "why"];
  const fields = Object.entries(event.details).filter(([, value]) => value !== null && value !== "" && !(Array.isArray(value) && value.length === 0));
  const sentence = fields.filter(([key]) => said.includes(key)).map(([, value]) => plain(value));
  const facts = fields.filter(([key]) => !said.includes(key) && key !== "points").map(([key, value]) => `${key} ${plain(value)}`);
  return [...facts, ...sentence].join(" · ");
}

const plain = (value: unknown): string => (Array.isArray(value) ? value.map(plain).join(", ") : typeof value === "object" ? JSON.stringify(value) : String(value));
const line = (event: EventView) => `${event.event} ${details(event)}`;
