// Where a token is asked for.

import { useEffect, useRef, useState } from "preact/hooks";
import { signIn } from "../session.ts";
import { Prose } from "../ui/kit.tsx";
import { LANGUAGES, t } from "../words/index.ts";

export function Login({ language, pick }: { language: string; pick: (language: string) => void }) {
  const [token, setToken] = useState("");
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  const go = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await signIn(token.trim());
    } catch (refusal) {
      setError(refusal instanceof Error ? refusal.message : String(refusal));
      setToken("");
      field.current?.focus();
    }
    setBusy(false);
  };
  return (
    <main class="login" lang={language}>
      <form class="panel" onSubmit={go}>
        <h1>{t("login.title")}</h1>
        <p class="mute"><Prose text={t("login.text")} /></p>
        <label for="token">{t("login.token")}</label>
        <input id="token" ref={field} type="password" autocomplete="current-password" spellcheck={false} value={token} onInput={(event) => setToken(event.currentTarget.value)} />
        {error && <p class="note bad" role="alert">{error}</p>}
        <div class="buttons">
          <select aria-label={t("app.language")} value={language} onChange={(event) => pick(event.currentTarget.value)}>
            {Object.entries(LANGUAGES).map(([tag, { name }]) => <option key={tag} value={tag} lang={tag}>{name}</option>)}
          </select>
          <button type="submit" class="primary" disabled={busy || token.trim() === ""}>{t("login.go")}</button>
        </div>
      </form>
    </main>
  );
}
