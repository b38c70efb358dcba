// Makes dist/ of src/. With --verify nothing is written: it says whether dist/ is what the sources give.

import { createHash } from "node:crypto";
import { readFileSync, mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { types } from "./types.mjs";

const root = new URL("../", import.meta.url);
const verify = process.argv.includes("--verify");
const path = (name) => fileURLToPath(new URL(name, root));

const result = await build({
  entryPoints: { app: path("src/main.tsx"), style: path("src/style.css") },
  bundle: true,
  write: false,
  minify: true,
  format: "esm",
  target: ["es2022", "chrome123", "firefox121", "safari17.5"],
  jsx: "automatic",
  jsxImportSource: "preact",
  outdir: path("dist"),
  // Comments of licences are kept beside the code that they are about.
  legalComments: "inline",
  charset: "utf8",
  absWorkingDir: fileURLToPath(root),
});

const files = new Map(result.outputFiles.map((file) => [file.path.split("/").pop(), Buffer.from(file.contents)]));
// A name that changes with what is in the file may be kept for ever; control/src/console.rs computes the same.
const version = (name) => createHash("sha256").update(files.get(name)).digest("hex").slice(0, 16);
let page = readFileSync(path("src/index.html"), "utf8");
for (const name of ["app.js", "style.css"]) page = page.replace(`console/${name}`, `console/${name}?v=${version(name)}`);
files.set("index.html", Buffer.from(page));
// Whose code is in it, and under which terms.
const licence = (name) => `${name}\n\n${readFileSync(path(`node_modules/${name}/LICENSE`), "utf8").trim()}\n`;
files.set("licenses.txt", Buffer.from(["preact", "uplot"].map(licence).join("\n\n")));
files.set("icon.svg", readFileSync(path("src/icon.svg")));

let stale = [];
const compare = (name, wanted) => {
  let have;
  try {
    have = readFileSync(path(name));
  } catch {
    have = Buffer.alloc(0);
  }
  if (have.equals(wanted)) return;
  if (verify) stale.push(name);
  else writeFileSync(path(name), wanted);
};
mkdirSync(path("dist"), { recursive: true });
compare("src/api.ts", Buffer.from(types()));
for (const [name, contents] of files) compare(`dist/${name}`, contents);
if (stale.length > 0) {
  console.error(`console: ${stale.join(", ")} ${stale.length > 1 ? "are" : "is"} not what the sources give: run \`npm run build\` in console/`);
  process.exit(1);
}
