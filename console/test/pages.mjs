// A page of the console in a browser, as the tests use it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** A page that is signed in, and fails the test when the browser complains of anything. */
export async function openPage(chrome, url, token, hash = "", options = {}) {
  const context = await chrome.newContext({ viewport: { width: 1280, height: 900 }, locale: "en-GB", bypassCSP: false, ...options });
  const page = await context.newPage();
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(error.message));
  page.on("console", (message) => {
    // That a request was refused is what some of these tests are about.
    if (message.type() === "error" && !/status of (401|403|404|409|412|422|429)|ERR_|net::/.test(message.text())) page.complaints.push(message.text());
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(url)) page.complaints.push(`asked ${request.url()}`);
  });
  await page.goto(`${url}#/${hash}`);
  if (token) {
    await page.fill("#token", token);
    await page.click("main.login button[type=submit]");
    await page.waitForSelector("header.top .pill.ok");
  }
  return page;
}

export async function close(page) {
  assert.deepEqual(page.complaints, []);
  await page.context().close();
}

/** Rules of axe that are broken, serious ones only. */
export async function broken(page) {
  // The policy of the page allows no script of ours in it: evaluated by the debugger instead.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations.filter(({ impact }) => impact === "serious" || impact === "critical").map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" | ")}`);
}

/** The row of a table that has this text in it. `page` may be a part of one. */
export const row = (page, text) => page.locator("table tr", { hasText: text }).first();

/** Opens a menu by its button. */
export async function openMenu(menu) {
  await menu.click();
}

/** Chooses a verb of the menu of a row; the question that follows. */
export async function choose(page, text, verb) {
  await openMenu(row(page, text).locator(".menu summary"));
  await row(page, text).getByRole("button", { name: verb, exact: true }).click();
  return question("goto" in page ? page : page.page());
}

/** The question that is asked. */
export async function question(page) {
  await page.waitForSelector("dialog[open]");
  return page.locator("dialog[open]");
}

/** Says yes to a question, by the button of this name. */
export async function yes(page, verb) {
  const dialog = await question(page);
  await dialog.getByRole("button", { name: verb, exact: true }).click();
  await page.waitForSelector("dialog", { state: "detached" });
}
