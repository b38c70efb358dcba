// The console in a real browser, over a live node: each page, each action, and what happens when something is wrong.
// `npm run browser` in console/, with target/debug/weir built and Debian's chromium installed.

import assert from "node:assert/strict";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ARTEFACTS, Node, browser, freePort, origin, until } from "./node.mjs";
import { broken, choose, close, openMenu, openPage, question, row, yes } from "./pages.mjs";

const PAGES = ["", "pools/web", "alarms", "machines", "vips", "events", "events/audit", "config"];

let node, chrome, origins;

before(async () => {
  origins = [await origin(), await origin(), await origin()];
  const web = await freePort();
  const endpoints = origins.slice(0, 2).map(({ port }) => `"127.0.0.1:${port}"`).join(", ");
  node = await Node.start(`
[listener.web]
bind = "127.0.0.1:${web}"
pool = "web"

[pool.web]
endpoints = [${endpoints}]

[pool.web.health]
type = "http"
path = "/"
interval = "1s"
timeout = "1s"
rise = 1
fall = 4

[pool.spare]
endpoints = ["127.0.0.1:${origins[2].port}"]

[alarm.quiet]
pool = "web"
metric = "in-flight"
period = "1s"
below = 100.0
severity = "info"
`, { tokens: ["read", "operate", "admin"] });
  chrome = await browser();
});

after(async () => {
  await chrome?.close();
  await node?.end();
  await Promise.all(origins.map((origin) => origin.end()));
});

// In one step: the node looks at its file when it likes.
const rewrite = (text) => {
  writeFileSync(`${node.file}.new`, text);
  renameSync(`${node.file}.new`, node.file);
};

const open = (role, hash, options) => openPage(chrome, node.url, role && node.tokens[role].token, hash, options);

test("a wrong token is refused, the right one opens the page, and signing out closes it", async () => {
  const page = await open(null);
  await page.fill("#token", "wrong");
  await page.click("main.login button[type=submit]");
  await page.waitForSelector("[role=alert]");
  assert.match(await page.textContent("[role=alert]"), /not a token/);
  assert.deepEqual(await broken(page), []);
  await page.fill("#token", node.tokens.read.token);
  await page.click("main.login button[type=submit]");
  await page.waitForSelector("text=How traffic flows");
  assert.equal(await page.evaluate(() => document.cookie), "", "no script reads the cookie");
  await page.reload();
  await page.waitForSelector("text=How traffic flows");
  await page.click("text=Sign out");
  await page.waitForSelector("#token");
  await page.reload();
  await page.waitForSelector("#token");
  await close(page);
});

for (const hash of PAGES) {
  for (const colorScheme of ["light", "dark"]) {
    test(`#/${hash} in ${colorScheme} breaks no rule of accessibility`, async () => {
      const page = await open("admin", hash, { colorScheme });
      await page.waitForSelector("main .panel, main h1");
      if (hash === "alarms") await page.click("details.more summary");
      await page.waitForTimeout(1200);
      assert.deepEqual(await broken(page), []);
      await page.screenshot({ path: join(ARTEFACTS, `${hash.replaceAll("/", "-") || "overview"}-${colorScheme}.png`), fullPage: true });
      await close(page);
    });
  }
  test(`#/${hash} fits a telephone`, async () => {
    const page = await open("admin", hash, { viewport: { width: 380, height: 800 } });
    await page.waitForSelector("main .panel, main h1");
    await page.waitForTimeout(500);
    await until("nothing is wider than the page", () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    await page.screenshot({ path: join(ARTEFACTS, `${hash.replaceAll("/", "-") || "overview"}-380.png`), fullPage: true });
    await close(page);
  });
}

test("an endpoint that dies is on the page in words", async () => {
  const page = await open("read");
  // The alarm that others of these tests acknowledge.
  await page.waitForSelector(".problems >> text=alarm quiet of pool web");
  const dying = await origin();
  const address = `127.0.0.1:${dying.port}`;
  await node.call("POST", "v1/pools/web/endpoints", { address });
  await until("it is healthy", async () => (await node.call("GET", `v1/pools/web/endpoints/${address}`)).health === "healthy");
  await dying.end();
  await until("the node knows", async () => (await node.call("GET", `v1/pools/web/endpoints/${address}`)).health === "unhealthy");
  await page.waitForSelector(`.problems >> text=${address}`);
  assert.match(await page.textContent(".problems"), /1 of 3 endpoints of pool web are down.*weir status pool web/s);
  assert.equal(await page.locator("nav .count").first().textContent(), "1");
  await page.locator(".problems a", { hasText: address }).click();
  await page.waitForSelector("h1 >> text=web");
  await node.call("DELETE", `v1/pools/web/endpoints/${address}`);
  await page.waitForSelector(`.problems >> text=${address}`, { state: "detached" });
  await close(page);
});

test("a menu that is open goes with its button when the page moves under it", async () => {
  const page = await open("operate", "pools/web", { viewport: { width: 1280, height: 700 } });
  const menu = row(page, `127.0.0.1:${origins[0].port}`).locator(".menu");
  await openMenu(menu.locator("summary"));
  const list = menu.locator("ul");
  await list.waitFor();
  // How far the list is below or above its button.
  const apart = () => menu.evaluate((menu) => {
    const [button, list] = [menu, menu.querySelector("ul")].map((element) => element.getBoundingClientRect());
    return Math.round(Math.max(list.top - button.bottom, button.top - list.bottom));
  });
  await until("the list hangs at its button", async () => (await apart()) === 4);
  const before = (await menu.boundingBox()).y;
  await page.evaluate(() => scrollBy(0, 20));
  await until("the page has moved", async () => (await menu.boundingBox()).y !== before);
  await until("the list went along", async () => (await apart()) === 4);
  assert.ok(await list.isVisible());
  await page.keyboard.press("Escape");
  await list.waitFor({ state: "hidden" });
  await close(page);
});

test("each thing that can be done to an endpoint is done, after it was said what will happen", async () => {
  const page = await open("operate", "pools/web");
  const address = `127.0.0.1:${origins[0].port}`;
  let dialog = await choose(page, address, "Drain");
  assert.match(await dialog.textContent(), /gets no new work.*1 other endpoints of the pool can take its work/s);
  await dialog.getByRole("button", { name: "Cancel" }).click();
  assert.equal((await node.call("GET", `v1/pools/web/endpoints/${address}`)).state, "ready");
  dialog = await choose(page, address, "Drain");
  await dialog.getByRole("button", { name: "Drain" }).click();
  await row(page, address).locator("text=draining").first().waitFor();
  const other = `127.0.0.1:${origins[1].port}`;
  dialog = await choose(page, other, "Maintenance");
  assert.match(await dialog.textContent(), /No other endpoint can take its work/);
  await page.keyboard.press("Escape");
  await page.waitForSelector("dialog", { state: "detached" });
  dialog = await choose(page, address, "Undrain");
  await dialog.getByRole("button", { name: "Undrain" }).click();
  await row(page, address).locator("text=healthy").waitFor();
  dialog = await choose(page, address, "Change weight");
  await dialog.locator("input[type=number]").fill("7");
  await dialog.getByRole("button", { name: "Change weight" }).click();
  await until("the weight is another", async () => (await node.call("GET", `v1/pools/web/endpoints/${address}`)).weight === 7);
  await page.getByRole("button", { name: "Add an endpoint" }).click();
  await page.locator("dialog input").first().fill("127.0.0.1:9");
  await page.locator("dialog[open]").getByRole("button", { name: "Add an endpoint" }).click();
  await row(page, "127.0.0.1:9").waitFor();
  await page.waitForSelector("dialog", { state: "detached" });
  await page.getByRole("button", { name: "Add an endpoint" }).click();
  await page.locator("dialog input").first().fill("127.0.0.1:9");
  await page.locator("dialog[open]").getByRole("button", { name: "Add an endpoint" }).click();
  await page.waitForSelector("dialog [role=alert]");
  assert.match(await page.textContent("dialog [role=alert]"), /has the endpoint .* already/);
  await page.keyboard.press("Escape");
  dialog = await choose(page, "127.0.0.1:9", "Remove");
  await dialog.getByRole("button", { name: "Remove" }).click();
  await page.locator("table >> text=127.0.0.1:9").first().waitFor({ state: "detached" });
  await until("who did it is in the events", async () => {
    const { events } = await node.call("GET", "v1/events?limit=1000");
    const mine = events.filter(({ event, details }) => event === "api_change" && details.by.startsWith("operate from"));
    return mine.length >= 5 && mine.some(({ details }) => details.request.startsWith("DELETE"));
  });
  await close(page);
});

test("the keyboard is enough", async () => {
  const page = await open("operate", "pools/web");
  const address = `127.0.0.1:${origins[1].port}`;
  await row(page, address).locator(".menu summary").focus();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForSelector("dialog[open]");
  await page.keyboard.press("Escape");
  await page.waitForSelector("dialog", { state: "detached" });
  await page.reload();
  await page.waitForSelector("header.top .pill.ok");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement?.className), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "main");
  await close(page);
});

test("who may only look is offered nothing else", async () => {
  const page = await open("read", "pools/web");
  await row(page, `127.0.0.1:${origins[0].port}`).waitFor();
  assert.equal(await page.locator(".menu").count(), 0);
  assert.equal(await page.getByRole("button", { name: "Add an endpoint" }).count(), 0);
  await close(page);
});

test("an alarm is taken care of", async () => {
  const page = await open("operate", "alarms");
  await page.waitForSelector("text=in alarm");
  await page.locator("li", { hasText: "quiet" }).getByRole("button", { name: "Take care of it" }).click();
  await page.locator("dialog input").first().fill("kim");
  await page.locator("dialog[open]").getByRole("button", { name: "Take care of it" }).click();
  await page.waitForSelector("text=kim takes care");
  await close(page);
});

test("what was is drawn, an alarm is tried on it, and who did what is listed", async () => {
  await node.call("PATCH", `v1/pools/spare/endpoints/127.0.0.1:${origins[2].port}`, { weight: 5 });
  const page = await open("operate", "pools/web");
  await page.getByRole("button", { name: "1 h", exact: true }).click();
  await page.waitForSelector("text=Requests a second and latency, as they were");
  await page.locator(".chart").or(page.getByText("Nothing was kept of that time")).first().waitFor();
  await page.goto(`${node.url}#/alarms`);
  await page.getByRole("button", { name: "Try it on the last day" }).click();
  await page.waitForSelector("text=/It would have gone off \\d+ times/");
  await page.fill("#definition", 'pool = "wbe"\nmetric = "requests"\nabove = 1');
  await page.getByRole("button", { name: "Try it on the last day" }).click();
  await page.waitForSelector("pre >> text=wbe");
  await page.goto(`${node.url}#/events/audit`);
  await page.locator("tr", { hasText: "admin" }).first().waitFor();
  await close(page);
});

test("an alarm is written, tried, and saved into the file; a file that was in effect comes back; what somebody else changed is not written over", async () => {
  const page = await open("admin", "alarms");
  const save = page.getByRole("button", { name: "Save", exact: true });
  await page.getByLabel("Name", { exact: true }).fill("fresh");
  await page.fill("#definition", 'pool = "web"\nmetric = "requests"\nabove = 123');
  assert.ok(await save.isDisabled(), "what was not tried is not saved");
  await page.getByRole("button", { name: "Try it on the last day" }).click();
  await page.waitForSelector("text=/It would have gone off \\d+ times/");
  await save.click();
  assert.match(await (await question(page)).textContent(), /takes effect at once.*fresh/s);
  // Somebody else is faster.
  rewrite(`${node.text}\n# by hand\n`);
  await page.locator("dialog[open]").getByRole("button", { name: "Save" }).click();
  await page.waitForSelector("dialog [role=alert]");
  assert.match(await page.textContent("dialog [role=alert]"), /was changed meanwhile|is based on revision/);
  await page.keyboard.press("Escape");
  await page.waitForSelector("dialog", { state: "detached" });
  await save.click();
  await yes(page, "Save");
  await page.waitForSelector("text=fresh is saved and in effect");
  await until("the alarm is watched", async () => (await node.call("GET", "v1/alarms")).some(({ name }) => name === "fresh"));
  assert.match(readFileSync(node.file, "utf8"), /# by hand\n\n\[alarm\.fresh\]\npool = "web"/);
  // And changed, from the file.
  await page.locator("form.trial select").selectOption("fresh");
  await until("the definition is that of the file", async () => (await page.inputValue("#definition")).includes("above = 123"));
  await close(page);

  const config = await open("admin", "config");
  const first = config.locator(".versions li", { hasNotText: "in effect" }).last();
  await first.getByRole("button", { name: "Go back to it" }).click();
  assert.match(await (await question(config)).textContent(), /replaced by this one.*fresh/s);
  await yes(config, "Go back to it");
  await until("the alarm is gone", async () => !(await node.call("GET", "v1/alarms")).some(({ name }) => name === "fresh"));
  assert.equal(readFileSync(node.file, "utf8"), node.text);
  await close(config);

  const operator = await open("operate", "alarms");
  await operator.waitForSelector("#definition");
  assert.equal(await operator.getByRole("button", { name: "Save", exact: true }).count(), 0);
  await close(operator);
});

test("events are searched and followed", async () => {
  const page = await open("read", "events");
  await page.waitForSelector("td >> text=endpoint_changed");
  await page.fill("input[type=search]", "weight 231");
  await page.waitForSelector("text=No event says that.");
  await node.call("PATCH", `v1/pools/spare/endpoints/127.0.0.1:${origins[2].port}`, { weight: 231 });
  await page.waitForSelector("td >> text=weight 231");
  await close(page);
});

test("the file is checked, its differences are shown, and it is applied; a wrong one is refused with the reason", async () => {
  const page = await open("admin", "config");
  await page.waitForSelector("pre.file");
  rewrite(`${node.text}\n[pool.fresh]\nendpoints = ["127.0.0.1:9"]\n`);
  await page.getByRole("button", { name: "Check", exact: true }).click();
  // The node watches its file, too: it may have taken it already.
  await page.waitForSelector("text=/fresh|in effect already/");
  await until("it is in effect", async () => (await node.call("GET", "v1/config")).pools.fresh === 1, 5000).catch(async () => {
    await page.getByRole("button", { name: "Apply", exact: true }).click();
    await page.locator("dialog[open]").getByRole("button", { name: "Apply" }).click();
    await until("it is in effect", async () => (await node.call("GET", "v1/config")).pools.fresh === 1);
  });
  rewrite(`${node.text}\n[pool.fresh]\nendpiont = []\n`);
  await page.getByRole("button", { name: "Check", exact: true }).click();
  await page.waitForSelector("pre >> text=endpoints");
  await page.waitForSelector("text=The file is refused");
  rewrite(node.text);
  await node.call("POST", "v1/reload");
  await close(page);
});

test("a node that hangs, goes and comes back is told apart from one that is well", async () => {
  const page = await open("operate");
  await page.waitForSelector("header .pill >> text=live");
  node.process.kill("SIGSTOP");
  await page.waitForSelector("text=The connection to the node was lost", { timeout: 60_000 });
  assert.ok(await page.locator("text=How traffic flows").isVisible(), "what was last seen stays");
  node.process.kill("SIGCONT");
  await page.waitForSelector("header .pill >> text=live", { timeout: 60_000 });
  await node.stop();
  await page.waitForSelector("text=The connection to the node was lost", { timeout: 60_000 });
  await node.run();
  // Another process knows no session of the one before.
  await page.waitForSelector("#token", { timeout: 60_000 });
  await page.fill("#token", node.tokens.operate.token);
  await page.click("main.login button[type=submit]");
  await page.waitForSelector("text=How traffic flows");
  await close(page);
});

test("it speaks Korean, and remembers that it was told to", async () => {
  const page = await open("read", "", { locale: "ko-KR" });
  await page.waitForSelector("text=트래픽 흐름");
  await page.selectOption("header select", "en");
  await page.waitForSelector("text=How traffic flows");
  await page.reload();
  await page.waitForSelector("text=How traffic flows");
  await close(page);
});

test("an upgrade leaves everybody signed in", async () => {
  const page = await open("operate");
  const { pid } = (await node.call("GET", "v1/status")).node;
  await node.call("POST", "v1/upgrade", {});
  const next = await until("another process serves", async () => {
    const now = (await node.call("GET", "v1/status").catch(() => ({ node: { pid } }))).node.pid;
    return now !== pid && now;
  });
  node.heir = next;
  await page.reload();
  await page.waitForSelector("text=How traffic flows");
  assert.equal(await page.locator("#token").count(), 0);
  await close(page);
});
