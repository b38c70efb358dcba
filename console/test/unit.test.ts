// The parts of the page that only compute.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { EndpointOverview, PoolOverview } from "../src/api.ts";
import { merge } from "../src/live.ts";
import { alarmNames, alarmOf, isName, withAlarm } from "../src/alarm-text.ts";
import { before, together } from "../src/history.ts";
import { byNeed, endpointWord, letters, others } from "../src/states.ts";
import { layout, stroke } from "../src/ui/layout.ts";
import { en } from "../src/words/en.ts";
import { ko } from "../src/words/ko.ts";

test("a merge patch, as RFC 7396 has it", () => {
  // Appendix A of the RFC.
  const cases: [unknown, unknown, unknown][] = [
    [{ a: "b" }, { a: "c" }, { a: "c" }],
    [{ a: "b" }, { b: "c" }, { a: "b", b: "c" }],
    [{ a: "b" }, { a: null }, {}],
    [{ a: "b", b: "c" }, { a: null }, { b: "c" }],
    [{ a: ["b"] }, { a: "c" }, { a: "c" }],
    [{ a: "c" }, { a: ["b"] }, { a: ["b"] }],
    [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }],
    [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
    [["a", "b"], ["c", "d"], ["c", "d"]],
    [{ a: "foo" }, "bar", "bar"],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: "b", c: null }, { a: "b" }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ];
  for (const [target, patch, expected] of cases) assert.deepEqual(merge(target, patch), expected);
});

test("what a patch does not touch stays the same object", () => {
  const before = { pools: { a: { n: 1 }, b: { n: 1 } } };
  const after = merge(before, { pools: { a: { n: 2 } } }) as typeof before;
  assert.equal(after.pools.b, before.pools.b);
  assert.notEqual(after.pools.a, before.pools.a);
  assert.equal(before.pools.a.n, 1);
});

const endpoint = (change: Partial<EndpointOverview>): EndpointOverview => ({ state: "ready", health: "healthy", available: true, since: 0, weight: 1, in_flight: 0, ...change });
const pool = (state: string, rps: number, endpoints: EndpointOverview[] = []): PoolOverview => ({
  balance: "random", state, healthy: 0, min_healthy: 1, available: 0, waiting: 0, in_flight: 0,
  rates: { requests_per_s: rps, failures_per_s: 0, retries_per_s: 0, queued_per_s: 0 },
  endpoints: Object.fromEntries(endpoints.map((endpoint, i) => [`10.0.0.${i}:80`, endpoint])),
});

test("one word for an endpoint, the wish first", () => {
  const cases: [Partial<EndpointOverview>, string][] = [
    [{}, "healthy"],
    [{ state: "draining", health: "unhealthy" }, "draining"],
    [{ health: "unhealthy", available: false }, "unhealthy"],
    [{ available: false, why: "ejected for another 3 s for failing requests" }, "ejected"],
    [{ available: false, why: "stands by: tier 1 serves only while no lower tier can" }, "standby"],
    [{ ramp_percent: 40 }, "ramp"],
    [{ health: "unchecked" }, "unchecked"],
  ];
  for (const [change, word] of cases) assert.equal(endpointWord(endpoint(change)), word);
});

test("the bad stand first", () => {
  assert.equal(letters(pool("degraded", 0, [endpoint({}), endpoint({ health: "unhealthy" }), endpoint({ state: "draining" })])), "bio");
  const pools: [string, PoolOverview][] = [["quiet", pool("ok", 1)], ["busy", pool("ok", 9)], ["ill", pool("degraded", 0)], ["dead", pool("down", 0)]];
  assert.deepEqual(pools.sort(byNeed).map(([name]) => name), ["dead", "ill", "busy", "quiet"]);
});

test("who takes over is who may be picked", () => {
  assert.equal(others(pool("ok", 0, [endpoint({}), endpoint({}), endpoint({ available: false })]), "10.0.0.0:80"), 1);
});

test("boxes stand in columns, and curves end at them", () => {
  const { height, boxes, curves } = layout([[{ id: "a", height: 100 }], [], [{ id: "b", height: 40 }, { id: "c", height: 46 }]], [{ from: "a", to: "b", rate: 10 }, { from: "a", to: "nowhere", rate: 1 }], 800);
  assert.equal(height, 100);
  assert.equal(boxes.get("a")!.x, 0);
  assert.equal(boxes.get("b")!.x + boxes.get("b")!.width, 800);
  assert.equal(boxes.get("c")!.y, boxes.get("b")!.y + 40 + 14);
  assert.deepEqual(curves.map((curve) => curve.to), ["b"]);
  assert.ok(stroke(0) < stroke(10) && stroke(10) < stroke(1000) && stroke(1e12) <= 9);
});

test("series stand side by side, each with its gaps", () => {
  const { at, values } = together([[{ at: 10, mean: 1 }, { at: 30, mean: 3 }], [{ at: 20, mean: 2 }, { at: 30, mean: 4 }]]);
  assert.deepEqual(at, [10, 20, 30]);
  assert.deepEqual(values, [[1, null, 3], [null, 2, 4]]);
});

test("every language fills in the same values", () => {
  const holes = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();
  for (const [key, text] of Object.entries(en)) {
    // Korean may order them otherwise, or count without saying how many.
    const other = holes((ko as Record<string, string>)[key]!);
    for (const hole of other) assert.ok(holes(text).includes(hole), `${key}: {${hole}}`);
  }
  for (const key of Object.keys(ko)) {
    if (key.startsWith("problem.")) assert.ok(key.replace("problem.", "next.") in ko, key);
  }
});

const FILE = `[node]
name = "a"

# busy
[alarm.busy]          # the old one
pool = "web"
above = 5

[[alarm.busy.scale_step]]
above = 1

# of the next
[alarm."quiet"]
pool = "web"

[notify.a.webhook]
body = """
[alarm.no]
"""
`;

test("the table of an alarm is found in the file, with what belongs to it and nothing else", () => {
  assert.deepEqual(alarmNames(FILE), ["busy", "quiet"]);
  assert.equal(alarmOf(FILE, "busy"), 'pool = "web"\nabove = 5\n\n[[alarm.busy.scale_step]]\nabove = 1\n');
  assert.equal(alarmOf(FILE, "quiet"), 'pool = "web"\n');
  assert.equal(alarmOf(FILE, "no"), null);
  const changed = withAlarm(FILE, "busy", "above = 7\n");
  assert.equal(changed, FILE.slice(0, FILE.indexOf("[alarm.busy]")) + "[alarm.busy]\nabove = 7\n\n" + FILE.slice(FILE.indexOf("# of the next")));
  const more = withAlarm(FILE, "fresh", 'pool = "web"');
  assert.ok(more.startsWith(FILE.trimEnd()) && more.endsWith('\n\n[alarm.fresh]\npool = "web"\n'));
  for (const name of ["busy", "quiet", "fresh"]) {
    const definition = 'pool = "api"\nabove = 1\n';
    assert.equal(alarmOf(withAlarm(FILE, name, definition), name), definition, name);
  }
  assert.deepEqual(["web-busy", "", "a b", "a.b", 'a"'].map(isName), [true, false, false, false, false]);
});

test("what was kept and what is seen do not overlap", () => {
  const at = (points: { at: number }[]) => points.map((point) => point.at);
  assert.deepEqual(at(before([{ at: 1 }, { at: 2 }, { at: 3 }], [{ at: 3 }, { at: 4 }])), [1, 2]);
  assert.deepEqual(at(before([{ at: 1 }], [])), [1]);
});
