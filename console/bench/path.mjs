// What an open console costs the data path, with 200 pools and 2,000 endpoints: pairs of runs of wrk, one with the page open and one without, in
// turn which comes first. The page is open in chromium, which takes processor time of the same machine; and, so that nothing but the node is
// measured, curl reads the stream that the page lives on. Pairs of which neither has anything open show what is noise. `npm run bench:path` in
// console/, with a release build of weir in WEIR and wrk installed. Prints figures; nothing is asserted, for they are the machine's. The node's
// time is read from the kernel, all its threads.

import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { Node, browser, freePort, origin, until } from "../test/node.mjs";

const POOLS = 200;
const ENDPOINTS = 10;
const PAIRS = Number(process.env.PAIRS ?? 7);
const RUN_S = Number(process.env.RUN_S ?? 5);

const server = await origin("0.0.0.0");
const pools = Array.from({ length: POOLS }, (_, p) => {
  const endpoints = Array.from({ length: ENDPOINTS }, (_, e) => `"127.${1 + (p >> 7)}.${p & 127}.${e + 1}:${server.port}"`);
  return `[pool.pool-${String(p).padStart(3, "0")}]\nendpoints = [${endpoints.join(", ")}]\n`;
});
const web = await freePort();
// Answered by the node itself, so that an origin in JavaScript is not what is measured.
const node = await Node.start(`[listener.web]\nbind = "127.0.0.1:${web}"\n[[listener.web.route]]\npath = "/"\n[listener.web.route.answer]\nstatus = 200\nbody = "served"\n${pools.join("\n")}`);
const chrome = await browser();

const ticks = () => {
  const fields = readFileSync(`/proc/${node.process.pid}/stat`, "utf8").split(") ")[1].split(" ");
  return Number(fields[11]) + Number(fields[12]);
};

/** Microseconds of the node's time for a request, and the 99th percentile as wrk saw it. */
function run() {
  const before = ticks();
  const { stdout } = spawnSync("wrk", ["-t1", "-c32", `-d${RUN_S}s`, "--latency", `http://127.0.0.1:${web}/`], { encoding: "utf8" });
  const used = (ticks() - before) * 10_000;
  if (!stdout) throw new Error("wrk is missing; run: apt-get install wrk");
  const requests = Number(/(\d+) requests in/.exec(stdout)?.[1]);
  const [, p99, unit] = /99%\s+([\d.]+)(us|ms|s)/.exec(stdout) ?? [];
  return { us: used / requests, p99_ms: Number(p99) * { us: 0.001, ms: 1, s: 1000 }[unit] };
}

/** What is open while wrk runs; returns what closes it. */
const OPEN = {
  // How far two runs are apart by themselves.
  async nothing() {
    return () => {};
  },
  async browser() {
    const page = await (await chrome.newContext()).newPage();
    await page.goto(node.url);
    await page.waitForSelector("table tbody tr");
    return () => page.context().close();
  },
  async stream() {
    // Into a file: nobody here reads while wrk runs.
    const into = join(node.dir, "stream");
    rmSync(into, { force: true });
    const reader = spawn("curl", ["-sNf", "-o", into, `${node.url}v1/overview/stream`], { stdio: "ignore" });
    await until("the stream begins", () => existsSync(into) && statSync(into).size > 0);
    return () => reader.kill();
  },
};

async function withOpen(what) {
  const close = await OPEN[what]();
  const result = run();
  await close();
  return result;
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
try {
  run();
  const show = (pairs, of) => {
    const ratios = pairs.map(({ open, shut }) => Math.round(of(open) / of(shut) * 1000) / 1000);
    return { median: median(ratios), from: Math.min(...ratios), to: Math.max(...ratios) };
  };
  const figures = { pairs: PAIRS };
  for (const what of Object.keys(OPEN)) {
    const pairs = [];
    for (let n = 0; n < PAIRS; n += 1) {
      const first = n % 2 === 0 ? await withOpen(what) : run();
      const second = n % 2 === 0 ? run() : await withOpen(what);
      const [open, shut] = n % 2 === 0 ? [first, second] : [second, first];
      pairs.push({ open, shut });
    }
    figures[what] = {
      us_per_request_without: Math.round(median(pairs.map(({ shut }) => shut.us)) * 100) / 100,
      ratio_of_time_per_request: show(pairs, ({ us }) => us),
      ratio_of_p99: show(pairs, ({ p99_ms }) => p99_ms),
    };
  }
  console.log(JSON.stringify(figures, null, 2));
} finally {
  await chrome.close();
  await node.end();
  await server.end();
}
