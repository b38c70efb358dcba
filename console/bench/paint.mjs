// How fast the console is with 200 pools and 2,000 endpoints, and what it costs the node. `npm run bench` in console/, with a release build of
// weir in WEIR. Prints figures; nothing is asserted, for they are the machine's.

import { readFileSync } from "node:fs";
import { Node, browser, freePort, origin, until } from "../test/node.mjs";

const POOLS = 200;
const ENDPOINTS = 10;
const WATCH_MS = 20_000;

const server = await origin("0.0.0.0");
const pools = Array.from({ length: POOLS }, (_, p) => {
  const endpoints = Array.from({ length: ENDPOINTS }, (_, e) => `"127.${1 + (p >> 7)}.${p & 127}.${e + 1}:${server.port}"`);
  return `[pool.pool-${String(p).padStart(3, "0")}]\nendpoints = [${endpoints.join(", ")}]\n`;
});
const web = await freePort();
const routes = Array.from({ length: POOLS }, (_, p) => `[[listener.web.route]]\npath = "/${p}/"\npool = "pool-${String(p).padStart(3, "0")}"\n`);
const node = await Node.start(`[listener.web]\nbind = "127.0.0.1:${web}"\npool = "pool-000"\n${routes.join("")}\n${pools.join("\n")}`);
const chrome = await browser();

/** Seconds of processor time of the node so far. */
const cpu = () => {
  const fields = readFileSync(`/proc/${node.process.pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
};

try {
  const idleFrom = cpu();
  await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
  const idle = (cpu() - idleFrom) / (WATCH_MS / 1000);

  const page = await (await chrome.newContext({ viewport: { width: 1920, height: 1080 } })).newPage();
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  let bytes = 0;
  session.on("Network.dataReceived", ({ encodedDataLength }) => (bytes += encodedDataLength));
  session.on("Network.responseReceived", ({ response }) => (bytes += response.encodedDataLength));
  await page.goto(node.url, { waitUntil: "commit" });
  await page.waitForSelector("table tbody tr");
  const shown = await page.evaluate(() => performance.now());
  const transferred = bytes;
  const painted = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
  await page.evaluate(() => {
    window.longTasks = [];
    new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ entryTypes: ["longtask"] });
  });

  const from = cpu();
  await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
  const open = (cpu() - from) / (WATCH_MS / 1000);
  const streamed = (bytes - transferred) / (WATCH_MS / 1000);

  const delays = [];
  for (let n = 0; n < 10; n += 1) {
    const state = n % 2 === 0 ? "draining" : "ready";
    const address = `127.1.0.1:${server.port}`;
    await page.goto(`${node.url}#/pools/pool-000`);
    await page.waitForSelector(`tr:has-text("${address}")`);
    const asked = Date.now();
    await node.call("PATCH", `v1/pools/pool-000/endpoints/${address}`, { state });
    await until("it is on the page", () => page.locator(`tr:has-text("${address}") .pill`).first().textContent().then((text) => (state === "draining") === (text === "draining")));
    delays.push(Date.now() - asked);
  }
  const longTasks = await page.evaluate(() => window.longTasks);
  delays.sort((a, b) => a - b);
  const round = (value) => Math.round(value * 100) / 100;
  console.log(JSON.stringify({
    pools: POOLS,
    endpoints: POOLS * ENDPOINTS,
    first_paint_ms: Math.round(painted),
    overview_shown_ms: Math.round(shown),
    transferred_kib: Math.round(transferred / 1024),
    streamed_kib_per_s: round(streamed / 1024),
    change_on_page_ms: { median: delays[5], worst: delays.at(-1) },
    long_tasks: longTasks.length,
    node_cpu_percent_without_page: round(idle * 100),
    node_cpu_percent_with_page: round(open * 100),
  }, null, 2));
} finally {
  await chrome.close();
  await node.end();
  await server.end();
}
