// Runs the tests of what only computes: bundled first, for the sources are TypeScript.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("../", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "weir-console-"));
const outfile = join(folder, "unit.test.mjs");
await build({
  entryPoints: [join(root, "test/unit.test.ts")],
  bundle: true,
  platform: "node",
  format: "esm",
  outfile,
  // What a browser would bring.
  banner: { js: "globalThis.window ??= globalThis; globalThis.localStorage ??= { getItem: () => null, setItem: () => {} }; globalThis.navigator ??= { language: 'en' };" },
  jsx: "automatic",
  jsxImportSource: "preact",
});
const { status } = spawnSync(process.execPath, ["--test", outfile], { stdio: "inherit" });
rmSync(folder, { recursive: true });
process.exit(status ?? 1);
