import assert from "node:assert/strict";
import { test } from "node:test";
import { matcher, ORDERS, states } from "../../client/models/query.js";

const jobOf = (run, more = {}) => ({
  ...{ run, connid: `job-${run}`, by: "ana", note: null, state: "running" },
  ...{ started_at: 100, deadline: 160, progress: null, lease: null },
  ...more,
});
const found = (query, ...jobs) => jobs.filter(matcher(query)).map(({ run }) => run);

test("every word of a search must be found, in any of a job's texts and whatever its case", () => {
  const backup = jobOf("a", { connid: "Nightly-Backup", note: "weekly FULL", by: "ana" });
  const report = jobOf("b", { connid: "report", by: "bo", progress: { note: "page 3 of 7" } });
  const killed = jobOf("c", { state: "killed", by: "bo", started_by: "chidi", reason: "wrong month" });
  const search = (text) => found({ search: text }, backup, report, killed);
  assert.deepEqual(search(""), ["a", "b", "c"]);
  assert.deepEqual(search("backup full"), ["a"]);
  assert.deepEqual(search("  PAGE  "), ["b"]);
  assert.deepEqual(search("bo"), ["b", "c"]);
  assert.deepEqual(search("chidi month"), ["c"]);
  assert.deepEqual(search("backup month"), []);
});

test("a job is filtered by who started it, not by who killed it", () => {
  const killed = jobOf("a", { state: "killed", by: "bo", started_by: "ana" });
  assert.deepEqual(found({ by: "ana" }, killed), ["a"]);
  assert.deepEqual(found({ by: "bo" }, killed), []);
});

test("states tell running jobs and ends apart", () => {
  assert.deepEqual(states(jobOf("a")), ["silent"]);
  assert.deepEqual(states(jobOf("a", { progress: { done: 0 }, lease: 5 })), ["reporting", "leased"]);
  assert.deepEqual(states(jobOf("a", { state: "killed", stopped_at: 7 })), ["killed", "stopped"]);
  assert.deepEqual(states(jobOf("a", { state: "finished", outcome: "elapsed", late: true })), ["elapsed", "late"]);
  assert.deepEqual(states(jobOf("a", { state: "finished", outcome: "elapsed", stopped_at: 7 })), ["elapsed", "stopped"]);
  assert.deepEqual(found({ state: "lost" }, jobOf("a", { state: "finished", outcome: "lost" })), ["a"]);
});

test("an order is the same whatever it begins with", () => {
  const jobs = [
    jobOf("c", { connid: "job 10", deadline: 50, started_at: 3 }),
    jobOf("a", { connid: "job 9", deadline: 50, started_at: 1 }),
    jobOf("b", { connid: "Job 9", deadline: 20, started_at: 2 }),
  ];
  const sorted = (order, list) => list.toSorted(ORDERS[order]).map(({ run }) => run);
  for (const list of [jobs, jobs.toReversed()]) {
    assert.deepEqual(sorted("left", list), ["b", "a", "c"]);
    assert.deepEqual(sorted("start", list), ["c", "b", "a"]);
    assert.deepEqual(sorted("name", list), ["a", "b", "c"]);
  }
});
