import { render } from "preact";
import { App } from "./app.tsx";
import { stored } from "./hooks.ts";
import { watch } from "./live.ts";
import { language, speak } from "./words/index.ts";

speak(language());
const theme = stored("theme");
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
watch();
render(<App />, document.getElementById("app")!);
