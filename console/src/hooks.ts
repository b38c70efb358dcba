// What components share.

import { useEffect, useState } from "preact/hooks";
import * as live from "./live.ts";

/** The live state, rendered anew when it changes. */
export function useLive(): live.Live {
  const [state, set] = useState(live.now());
  useEffect(() => {
    const update = () => set(live.now());
    update();
    return live.subscribe(update);
  }, []);
  return state;
}

/** The part of the address after `#`, in pieces: `#/pools/web` is `["pools", "web"]`. */
export function usePlace(): string[] {
  const read = () => location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decode);
  const [place, set] = useState(read);
  useEffect(() => {
    const update = () => set(read());
    window.addEventListener("hashchange", update);
    return () => window.removeEventListener("hashchange", update);
  }, []);
  return place;
}

function decode(piece: string): string {
  try {
    return decodeURIComponent(piece);
  } catch {
    return piece;
  }
}

export interface Asked<T> {
  value: T | null;
  error: string | null;
  again: () => void;
}

/** Asks now, and again every `everyMs` while it is shown; 0: only once. */
export function useAsked<T>(ask: () => Promise<T>, everyMs: number, key: unknown): Asked<T> {
  const [state, set] = useState<{ value: T | null; error: string | null }>({ value: null, error: null });
  const [turn, setTurn] = useState(0);
  useEffect(() => set({ value: null, error: null }), [key]);
  useEffect(() => {
    let over = false;
    let timer = 0;
    const look = async () => {
      try {
        const value = await ask();
        if (!over) set({ value, error: null });
      } catch (error) {
        if (!over) set((before) => ({ ...before, error: error instanceof Error ? error.message : String(error) }));
      }
      if (!over && everyMs > 0) timer = window.setTimeout(look, everyMs);
    };
    void look();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [key, turn, everyMs]);
  return { ...state, again: () => setTurn((turn) => turn + 1) };
}

/** A choice that outlives the page. */
export function useKept(name: string, initial: string): [string, (value: string) => void] {
  const [value, set] = useState(() => stored(name) ?? initial);
  return [
    value,
    (value) => {
      try {
        localStorage.setItem(`weir.${name}`, value);
      } catch {
        // Private mode: it holds as long as the page.
      }
      set(value);
    },
  ];
}

export function stored(name: string): string | null {
  try {
    return localStorage.getItem(`weir.${name}`);
  } catch {
    return null;
  }
}
