// The console over the whole chain, as scripts/quickstart leaves it running: machines, scaling and an address that are worked on in the browser.
// The test of the quickstart (control/tests/quickstart.rs) runs it. WEIR_CONSOLE names both nodes, the one that leads first: URL,URL;
// WEIR_TOKEN is their token.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { ARTEFACTS, browser, until } from "./node.mjs";
import { broken, choose, close, openMenu, openPage, question, row, yes } from "./pages.mjs";

let [leader, other] = process.env.WEIR_CONSOLE.split(",");
const token = process.env.WEIR_TOKEN;
/** A machine boots under emulation, beside everything else. */
const LONG_MS = 180_000;

let chrome;
before(async () => (chrome = await browser()));
after(() => chrome?.close());

const open = (url, hash, options) => openPage(chrome, url, token, hash, options);

async function api(url, path) {
  const response = await fetch(url + path, { headers: { authorization: `Bearer ${token}` } });
  assert.ok(response.ok, `${path}: ${response.status}`);
  return response.json();
}

// The address may have moved meanwhile: on a machine that stood still for a while that is right, and it stays where it is.
beforeEach(() => until("a node leads", async () => {
  for (const [here, there] of [[leader, other], [other, leader]]) {
    if ((await api(here, "v1/scaling/web")).leads) {
      if (here !== leader) console.log(`# the address has moved to ${here}`);
      [leader, other] = [here, there];
      return true;
    }
  }
  return false;
}));

const pool = () => api(leader, "v1/scaling/web");
const serving = (item) => item.members.filter(({ state }) => state === "serving").map(({ machine }) => machine);
const settled = (count) => until(`${count} machines serve`, async () => {
  const item = await pool();
  return serving(item).length === count && item.members.length === count && item;
}, LONG_MS);

test("each page shows the whole chain, breaks no rule of accessibility, and fits a telephone", async () => {
  // Who was rebooted from the terminal may just be replaced.
  const { members } = await settled(2);
  const { id } = (await api(leader, "v1/machines")).find(({ name }) => name === members[0].machine);
  const look = async (hash) => {
    const page = await open(leader, hash);
    await page.waitForSelector("main .panel, main h1");
    await page.waitForTimeout(1500);
    assert.deepEqual(await broken(page), [], hash);
    await page.screenshot({ path: join(ARTEFACTS, `chain-${hash.replace(id, "one").replaceAll("/", "-") || "overview"}.png`), fullPage: true });
    await page.setViewportSize({ width: 380, height: 800 });
    await until(`#/${hash} fits`, () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 5000);
    await close(page);
  };
  await Promise.all(["", "pools/web", "alarms", "machines"].map(look));
  await Promise.all([`machines/machine/${id}`, "machines/host/kvm-a", "vips", "config"].map(look));
});

test("a pool is scaled, held and protected, and the timeline knows what was before the page was opened", async () => {
  const before = await settled(2);
  const page = await open(leader, "pools/web");
  // Alarms, plans and steps of the show, before anybody looked.
  await page.locator("ol.steps li", { hasText: /\d → \d/ }).first().waitFor();
  await page.getByRole("button", { name: "Change the number" }).click();
  let dialog = await question(page);
  await dialog.locator("input[type=number]").fill("3");
  assert.match(await dialog.textContent(), /1 machines are made/);
  await yes(page, "Change the number");
  await until("three are wanted", async () => (await pool()).desired === 3);
  const name = serving(before)[0];
  const members = page.getByRole("region", { name: "Machines of this pool" });
  dialog = await choose(members, name, "Protect");
  assert.match(await dialog.textContent(), new RegExp(`Nobody takes ${name} out`));
  await yes(page, "Protect");
  await row(members, name).locator("text=protected").waitFor();
  await choose(members, name, "Protect no longer");
  await yes(page, "Protect no longer");
  await openMenu(page.locator("summary[aria-label*=Scaling]"));
  await page.getByRole("button", { name: "Pause scaling", exact: true }).click();
  await yes(page, "Pause scaling");
  await until("it is held", async () => (await pool()).paused);
  await openMenu(page.locator("summary[aria-label*=Scaling]"));
  await page.getByRole("button", { name: "Resume scaling", exact: true }).click();
  await yes(page, "Resume scaling");
  await until("it is not held", async () => !(await pool()).paused);
  await close(page);
  // Nobody asks for three machines' worth of pages: the policies go back to two by themselves.
  await settled(2);
});

test("a machine is looked into and rebooted, and one of them is refused what it does not do", async () => {
  const { members } = await settled(2);
  const { id, name } = (await api(leader, "v1/machines")).find((machine) => machine.name === members[0].machine);
  const page = await open(leader, `machines/machine/${id}`);
  await page.getByRole("button", { name: "Console", exact: true }).click();
  await page.waitForSelector("pre.log");
  // It has no screen, and the page says so instead of showing a broken picture.
  await page.getByRole("button", { name: "Screen", exact: true }).click();
  await page.locator("img.screen").or(page.locator("main .empty, main p")).first().waitFor();
  await page.getByRole("button", { name: "Reboot", exact: true }).click();
  assert.match(await (await question(page)).textContent(), /asked to start again/);
  await yes(page, "Reboot");
  await page.locator("li", { hasText: name }).filter({ hasText: "✓" }).waitFor({ timeout: LONG_MS });
  await page.goto(`${leader}#/machines`);
  await page.getByLabel(`Choose ${name}`).check();
  await page.getByRole("group", { name: "What to do with them" }).getByRole("button", { name: "Start", exact: true }).click();
  await yes(page, "Start");
  await page.locator("li", { hasText: name }).first().waitFor();
  const { events } = await api(leader, "v1/events?limit=1000");
  assert.ok(events.some(({ event, details }) => event === "api_change" && details.request.includes("/v1/machines/actions")), "who asked is in the events");
  await close(page);
  await settled(2);
});

test("the address is handed over, and the other page says so", async () => {
  await until("the other node could be master", async () => (await api(other, "v1/vips/public")).routers[0].state === "backup");
  const [page, there] = [await open(leader, "vips"), await open(other, "vips")];
  await page.getByRole("button", { name: "Hand over", exact: true }).click();
  assert.match(await (await question(page)).textContent(), /Another node becomes master of public first/);
  await yes(page, "Hand over");
  await until("the other node is master", async () => (await api(other, "v1/vips/public")).routers[0].state === "master");
  await there.getByRole("button", { name: "Hand over", exact: true }).waitFor();
  await page.getByRole("button", { name: "Hand over", exact: true }).waitFor({ state: "detached" });
  // Who was signed in to the one is not signed out by the other.
  await close(page);
  await close(there);
});
