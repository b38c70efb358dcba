// The words of the page, in the languages that it speaks. A language is a file with the same keys; the compiler finds what is missing.

import { stored } from "../hooks.ts";
import { en } from "./en.ts";
import { ko } from "./ko.ts";

export type Key = keyof typeof en;
export type Words = Record<Key, string>;

export const LANGUAGES: Record<string, { name: string; words: Words }> = {
  en: { name: "English", words: en },
  ko: { name: "한국어", words: ko },
};

let chosen = choose(stored("language") ?? navigator.language);

function choose(wanted: string): string {
  const short = wanted.slice(0, 2).toLowerCase();
  return LANGUAGES[short] ? short : "en";
}

export const language = () => chosen;

export function speak(wanted: string) {
  chosen = choose(wanted);
  document.documentElement.lang = chosen;
}

type Values = Record<string, string | number | null | undefined>;

/** A text with its values filled in: `{name}`. */
export function t(key: Key, values: Values = {}): string {
  return fill(LANGUAGES[chosen]!.words[key], values);
}

/** A text by a key that the node gives, or what the node says itself. */
export function tOr(key: string, otherwise: string, values: Values = {}): string {
  const text = (LANGUAGES[chosen]!.words as Record<string, string>)[key];
  return text === undefined ? otherwise : fill(text, values);
}

function fill(text: string, values: Values): string {
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}
