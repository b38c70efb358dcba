// Small parts that every page is made of.

import type { ComponentChildren } from "preact";
import { memo } from "preact/compat";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { t, tOr } from "../words/index.ts";

/** How good a state is: decides its colour, never alone: a word stands beside it. */
export type Tone = "ok" | "warn" | "bad" | "info" | "off";

const TONES: Record<string, Tone> = {
  ok: "ok", healthy: "ok", up: "ok", running: "ok", master: "ok", ready: "ok", serving: "ok", resolved: "ok", delivers: "ok",
  degraded: "warn", draining: "info", maintenance: "info", connecting: "warn", warning: "warn", acknowledged: "warn", "insufficient-data": "off",
  ejected: "warn", interrupted: "warn", ramp: "info",
  "below-floor": "bad", down: "bad", unhealthy: "bad", crashed: "bad", critical: "bad", alarm: "bad", open: "bad", failing: "bad",
  backup: "info", info: "info", launching: "info", booted: "info", warming: "info", creating: "info", leaving: "info", removing: "info",
  deleting: "info", shutting_down: "info", initialize: "info",
};

export const tone = (word: string): Tone => TONES[word] ?? "off";

export function Pill({ word, as, text }: { word: string; as?: Tone; text?: string }) {
  return <span class={`pill ${as ?? tone(word)}`}>{text ?? tOr(`word.${word}`, word)}</span>;
}

export function Panel({ title, side, children, id }: { title?: string; side?: ComponentChildren; children: ComponentChildren; id?: string }) {
  return (
    <section class="panel" id={id} aria-label={title}>
      {title !== undefined && (
        <header>
          <h2>{title}</h2>
          {side && <div class="side">{side}</div>}
        </header>
      )}
      {children}
    </section>
  );
}

export function Figure({ label, value, tone: colour, note }: { label: string; value: string; tone?: Tone; note?: string }) {
  return (
    <div class="figure">
      <dt>{label}</dt>
      <dd class={colour}>
        {value}
        {note && <small>{note}</small>}
      </dd>
    </div>
  );
}

/** A share of something, 0 to 1. */
export function Bar({ share, label, warn = 0.8, bad = 0.95 }: { share: number | null | undefined; label: string; warn?: number; bad?: number }) {
  const value = Math.min(1, Math.max(0, share ?? 0));
  const colour: Tone = value >= bad ? "bad" : value >= warn ? "warn" : "ok";
  return (
    <span class="bar">
      <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
        <rect class="track" width="100" height="6" />
        {share != null && <rect class={colour} width={value * 100} height="6" />}
      </svg>
      <span>{label}</span>
    </span>
  );
}

/** One small square for each endpoint; the string has a letter for each: o(k), w(arn), b(ad), i(nfo), f (off). */
export const Dots = memo(function Dots({ states, label, max = 36 }: { states: string; label: string; max?: number }) {
  const shown = states.slice(0, max);
  const perRow = 18;
  const rows = Math.max(1, Math.ceil(shown.length / perRow));
  const classes: Record<string, string> = { o: "ok", w: "warn", b: "bad", i: "info", f: "off" };
  return (
    <svg class="dots" width={Math.min(perRow, Math.max(1, shown.length)) * 9} height={rows * 9} role="img" aria-label={label}>
      {[...shown].map((letter, i) => (
        <rect key={i} class={classes[letter]} x={(i % perRow) * 9} y={Math.floor(i / perRow) * 9} width="7" height="7" rx="2" />
      ))}
    </svg>
  );
});

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

/** A table's head cell that sorts. */
export function Sort<K extends string>(props: { by: K; now: K; down: boolean; set: (by: K, down: boolean) => void; children: ComponentChildren; num?: boolean }) {
  const mine = props.by === props.now;
  return (
    <th scope="col" class={props.num ? "num" : undefined} aria-sort={mine ? (props.down ? "descending" : "ascending") : "none"}>
      <button type="button" class="sort" onClick={() => props.set(props.by, mine ? !props.down : true)}>
        {props.children}
        <span aria-hidden="true">{mine ? (props.down ? " ↓" : " ↑") : ""}</span>
      </button>
    </th>
  );
}

export function SearchField({ value, set, label }: { value: string; set: (value: string) => void; label: string }) {
  const id = useId();
  return (
    <span class="search">
      <label for={id} class="unseen">{label}</label>
      <input id={id} type="search" placeholder={label} value={value} onInput={(event) => set(event.currentTarget.value)} />
    </span>
  );
}

export interface Wish {
  title: string;
  /** What will happen, a paragraph each. */
  what: ComponentChildren[];
  /** What is worth a second thought. */
  warning?: string | null;
  /** The word on the button. */
  verb: string;
  danger?: boolean;
  /** Further fields. */
  children?: ComponentChildren;
  /** False: the fields do not say enough yet. */
  ready?: boolean;
  /** Does it; what it throws is shown, and the question stays. */
  go: () => Promise<unknown>;
}

/** Asks before something is changed: says what will happen, does it, and says why when it was refused. */
export function Confirm({ wish, close }: { wish: Wish; close: (done: boolean) => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const title = useId();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string | null>(null);
  useEffect(() => dialog.current?.showModal(), []);
  const go = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await wish.go();
      dialog.current?.close();
      close(true);
    } catch (refusal) {
      setError(refusal instanceof Error ? refusal.message : String(refusal));
      setBusy(false);
    }
  };
  return (
    <dialog ref={dialog} aria-labelledby={title} onCancel={() => close(false)}>
      <form onSubmit={go}>
        <h2 id={title}>{wish.title}</h2>
        {wish.what.map((text, i) => <p key={i}>{text}</p>)}
        {wish.warning && <p class="note bad">{wish.warning}</p>}
        {wish.children}
        {error && <p class="note bad" role="alert">{t("say.failed", { why: error })}</p>}
        <div class="buttons">
          <button type="button" onClick={() => { dialog.current?.close(); close(false); }}>{t("say.cancel")}</button>
          <button type="submit" class={wish.danger ? "danger" : "primary"} disabled={busy || wish.ready === false}>{wish.verb}</button>
        </div>
      </form>
    </dialog>
  );
}

/** A menu of things to do, as a disclosure: works with keyboard and screen reader without further code. */
export function Menu({ label, items }: { label: string; items: { text: string; go: () => void; danger?: boolean }[] }) {
  const details = useRef<HTMLDetailsElement>(null);
  // It hangs beside its button on the window, not in the table, which would cut it off.
  const hang = () => {
    const menu = details.current;
    const list = menu?.querySelector("ul");
    if (!menu?.open || !list) return;
    const button = menu.getBoundingClientRect();
    if (button.bottom < 0 || button.top > innerHeight) {
      menu.open = false;
      return;
    }
    const below = button.bottom + 4 + list.offsetHeight < innerHeight;
    list.style.right = `${Math.max(4, innerWidth - button.right)}px`;
    list.style.top = `${below ? button.bottom + 4 : Math.max(4, button.top - 4 - list.offsetHeight)}px`;
  };
  // What happens moves the page under an open menu: it goes along, and is not closed under somebody's hand.
  useLayoutEffect(hang);
  useEffect(() => {
    const away = (event: Event) => {
      const menu = details.current;
      if (menu?.open && (event instanceof KeyboardEvent ? event.key === "Escape" : !menu.contains(event.target as Node))) {
        menu.open = false;
        if (event instanceof KeyboardEvent) menu.querySelector("summary")?.focus();
      }
    };
    document.addEventListener("pointerdown", away);
    document.addEventListener("scroll", hang, true);
    document.addEventListener("keydown", away);
    return () => {
      document.removeEventListener("pointerdown", away);
      document.removeEventListener("scroll", hang, true);
      document.removeEventListener("keydown", away);
    };
  }, []);
  return (
    <details class="menu" ref={details} onToggle={hang}>
      <summary aria-label={label}><span aria-hidden="true">⋯</span></summary>
      <ul>
        {items.map((item) => (
          <li key={item.text}>
            <button type="button" class={item.danger ? "danger" : undefined} onClick={() => { details.current!.open = false; item.go(); }}>{item.text}</button>
          </li>
        ))}
      </ul>
    </details>
  );
}

/** Text with `code` in it. */
export function Prose({ text }: { text: string }) {
  return <>{text.split("`").map((piece, i) => (i % 2 === 1 ? <code key={i}>{piece}</code> : piece))}</>;
}

/** Where a thing has its page. */
export function place(about: string, name: string): string | null {
  const piece = encodeURIComponent(name);
  switch (about) {
    case "pool": return `#/pools/${piece}`;
    case "host": return `#/machines/host/${piece}`;
    case "machine": return `#/machines/machine/${piece}`;
    case "vip": return "#/vips";
    case "alarm": case "channel": return "#/alarms";
    case "node": return "#/config";
    case "listener": return "#/";
    default: return null;
  }
}
