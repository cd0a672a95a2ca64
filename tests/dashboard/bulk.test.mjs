import assert from "node:assert/strict";
import { test } from "node:test";
import { killAll } from "../../client/models/bulk.js";

const jobs = (number) => Array.from({ length: number }, (_, index) => ({ run: `r${index}` }));
const failing = (code, more = {}) => Object.assign(new Error(code), { code, ...more });

test("all are killed, a few at a time", async () => {
  let underWay = 0;
  let most = 0;
  const told = await killAll(jobs(500), async () => {
    most = Math.max(most, ++underWay);
    await null;
    underWay -= 1;
  });
  assert.deepEqual(told, { killed: 500, gone: 0, unsent: 0, failed: [] });
  assert.ok(most > 1 && most <= 32, `${most} at once`);
});

test("what has ended by itself is no failure", async () => {
  const told = await killAll(jobs(3), async ({ run }) => {
    if (run === "r1") throw failing("not_running");
  });
  assert.deepEqual(told, { killed: 2, gone: 1, unsent: 0, failed: [] });
});

test("a broken line sends nothing more", async () => {
  let sent = 0;
  const told = await killAll(jobs(1000), async () => {
    if (++sent > 100) throw failing("offline");
    await null;
  });
  assert.equal(told.killed, 100);
  assert.equal(told.unsent, 900);
  assert.ok(sent < 150, `${sent} were tried`);
});

test("an unanswered kill is told of and not tried again", async () => {
  const tried = [];
  const told = await killAll(jobs(2), async ({ run }) => {
    tried.push(run);
    if (run === "r0") throw failing("no_answer");
  });
  assert.deepEqual(tried.toSorted(), ["r0", "r1"]);
  assert.equal(told.failed[0].job.run, "r0");
});

test("a rate limit is waited for as long as the server says", async () => {
  const pauses = [];
  let refused = false;
  const kill = async () => {
    if (refused) return;
    refused = true;
    throw failing("rate_limited", { retryAfter: 3 });
  };
  const told = await killAll(jobs(2), kill, { pause: async (seconds) => pauses.push(seconds) });
  assert.equal(told.killed, 2);
  assert.deepEqual(pauses, [3]);
});

test("it can be stopped", async () => {
  const stopping = new AbortController();
  const told = await killAll(jobs(200), async () => stopping.abort(), { signal: stopping.signal });
  assert.equal(told.killed + told.unsent, 200);
  assert.ok(told.unsent > 100);
});
