// The frame around every page: where one is, how the connection is, who one is.

import { createContext } from "preact";
import { useContext, useEffect, useState } from "preact/hooks";
import type { OverviewView } from "./api.ts";
import { clock } from "./format.ts";
import { useKept, useLive, usePlace } from "./hooks.ts";
import type { Live } from "./live.ts";
import { Alarms } from "./pages/alarms.tsx";
import { Config } from "./pages/config.tsx";
import { Events } from "./pages/events.tsx";
import { Login } from "./pages/login.tsx";
import { Machines } from "./pages/machines.tsx";
import { Overview } from "./pages/overview.tsx";
import { Pool } from "./pages/pool.tsx";
import { Vips } from "./pages/vips.tsx";
import { ask, signOut, type Session } from "./session.ts";
import { Empty, type Tone } from "./ui/kit.tsx";
import { language, LANGUAGES, speak, t, type Key } from "./words/index.ts";

const SessionContext = createContext<Session | null>(null);
export const useSession = () => useContext(SessionContext);

const PAGES: { place: string; key: Key }[] = [
  { place: "", key: "nav.overview" },
  { place: "alarms", key: "nav.alarms" },
  { place: "machines", key: "nav.machines" },
  { place: "vips", key: "nav.vips" },
  { place: "events", key: "nav.events" },
  { place: "config", key: "nav.config" },
];

export function App() {
  const live = useLive();
  const place = usePlace();
  const [session, setSession] = useState<Session | null>(null);
  const [chosen, choose] = useKept("language", language());
  useEffect(() => {
    // Asked again whenever a connection begins: roles may have changed with the file.
    if (live.link === "live") ask().then(setSession, () => setSession(null));
  }, [live.link]);
  useEffect(() => {
    document.getElementById("main")?.scrollTo(0, 0);
    window.scrollTo(0, 0);
  }, [place.join("/")]);
  const pick = (wanted: string) => {
    speak(wanted);
    choose(wanted);
  };
  const view = live.overview;
  useEffect(() => {
    const bad = view?.problems.filter((problem) => problem.severity === "critical").length ?? 0;
    document.title = `${bad > 0 ? `(${bad}) ` : ""}${view?.node.name ?? "weir"} · weir`;
  }, [view]);
  if (live.link === "signed-out") return <Login language={chosen} pick={pick} />;
  return (
    <SessionContext.Provider value={session}>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>{t("app.skip")}</a>
      <Head live={live} session={session} chosen={chosen} pick={pick} />
      <Nav at={place[0] ?? ""} view={view} />
      <main id="main" tabIndex={-1} lang={chosen}>
        <Lost live={live} />
        {view ? <Page place={place} view={view} /> : <Empty>{t(live.link === "connecting" && Date.now() - live.since > 3000 ? "unreachable.text" : "app.loading")}</Empty>}
      </main>
    </SessionContext.Provider>
  );
}

function Page({ place, view }: { place: string[]; view: OverviewView }) {
  const [page = "", ...rest] = place;
  switch (page) {
    case "": return <Overview view={view} />;
    case "pools": return rest[0] !== undefined ? <Pool key={rest[0]} name={rest[0]} view={view} /> : <Overview view={view} />;
    case "alarms": return <Alarms view={view} />;
    case "machines": return <Machines view={view} place={rest} />;
    case "vips": return <Vips view={view} />;
    case "events": return <Events />;
    case "config": return <Config view={view} />;
    default: return <Empty>{t("app.nothing")}</Empty>;
  }
}

const LINK_TONES: Record<Live["link"], Tone> = { connecting: "info", live: "ok", lost: "bad", "signed-out": "off" };

function Head({ live, session, chosen, pick }: { live: Live; session: Session | null; chosen: string; pick: (language: string) => void }) {
  const [theme, setTheme] = useKept("theme", "auto");
  const paint = (wanted: string) => {
    setTheme(wanted);
    if (wanted === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = wanted;
    document.dispatchEvent(new Event("weir-theme"));
  };
  return (
    <header class="top">
      <a class="brand" href="#/">
        <svg width="26" height="20" viewBox="0 0 26 20" aria-hidden="true"><path d="M1 5c3-3 5-3 8 0s5 3 8 0 5-3 8 0" /><path d="M1 11c3-3 5-3 8 0s5 3 8 0 5-3 8 0" /><path class="dam" d="M1 17h24" /></svg>
        <span>weir</span>
      </a>
      <span class="node">{live.overview?.node.name}</span>
      <span class={`pill ${LINK_TONES[live.link]}`} role="status">{t(`link.${live.link}`)}</span>
      <span class="space" />
      {session?.session && <span class="you mute" title={t("you.role", { role: t(`role.${session.role}`) })}>{session.name} · {t(`role.${session.role}`)}</span>}
      <label><span class="unseen">{t("app.language")}</span>
        <select value={chosen} onChange={(event) => pick(event.currentTarget.value)}>
          {Object.entries(LANGUAGES).map(([tag, { name }]) => <option key={tag} value={tag} lang={tag}>{name}</option>)}
        </select>
      </label>
      <label><span class="unseen">{t("app.theme")}</span>
        <select value={theme} onChange={(event) => paint(event.currentTarget.value)}>
          {(["auto", "light", "dark"] as const).map((theme) => <option key={theme} value={theme}>{t(`app.theme.${theme}`)}</option>)}
        </select>
      </label>
      {session?.session && <button type="button" class="quiet" onClick={() => void signOut()}>{t("app.signout")}</button>}
    </header>
  );
}

function Nav({ at, view }: { at: string; view: OverviewView | null }) {
  const counts: Record<string, number> = {
    // What an operator did on purpose is listed, but calls nobody.
    "": view?.problems.filter((problem) => problem.severity !== "info").length ?? 0,
    alarms: Object.values(view?.incidents ?? {}).filter((incident) => incident.state === "open").length,
  };
  const here = at === "pools" ? "" : at;
  return (
    <nav aria-label={t("app.nav")}>
      <ul>
        {PAGES.map(({ place, key }) => (
          <li key={place}>
            <a href={`#/${place}`} aria-current={here === place ? "page" : undefined}>
              {t(key)}
              {counts[place] ? <span class="count" aria-label={t("problems.count", { n: counts[place] })}>{counts[place]}</span> : null}
            </a>
          </li>
        ))}
      </ul>
      {view && <p class="about mute">{view.node.version}<br />{t("config.revision", { n: view.node.revision })}</p>}
    </nav>
  );
}

function Lost({ live }: { live: Live }) {
  return (
    <div role="alert">
      {live.link === "lost" && live.overview && <p class="note bad">{t("lost.text", { at: clock(live.overview.at) })}</p>}
    </div>
  );
}
