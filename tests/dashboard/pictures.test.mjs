import assert from "node:assert/strict";
import { test } from "node:test";
import { layOut } from "../../client/models/lanes.js";
import { merge, Past } from "../../client/models/past.js";
import { RoomState } from "../../client/follow/state.js";
import { claims, tokenOf } from "../../client/models/token.js";
import { series, STEP, STEPS, Trend } from "../../client/models/trend.js";

const running = (run, from, to) => ({ run, started_at: from, deadline: to, state: "running" });
const ended = (run, seq, from, to, more = {}) => ({
  ...{ run, connid: run, room: "main", seq, started_at: from, deadline: to + 60, ended_at: to },
  ...{ state: "finished", outcome: "done", ...more },
});
const view = { from: 0, to: 100, gap: 1, most: 10 };

function stateOf(snapshot) {
  const state = new RoomState("main", { endedLimit: 1000 });
  state.apply("snapshot", { room: "main", epoch: "e", seq: 0, running: [], ended: [], ...snapshot });
  return state;
}

test("bars of one lane never touch", () => {
  const jobs = [running("a", 0, 50), running("b", 10, 20), running("c", 25, 40), running("d", 51, 60)];
  const { bars, lanes, left } = layOut(jobs, view);
  assert.deepEqual(bars.map(({ job, lane }) => [job.run, lane]), [["a", 0], ["b", 1], ["c", 1], ["d", 0]]);
  assert.equal(lanes, 2);
  assert.equal(left, 0);
});

test("what is out of sight takes no lane, and what finds none is counted", () => {
  const jobs = [running("old", -50, -1), running("far", 101, 200), running("a", 0, 50), running("b", 1, 50)];
  const { bars, left } = layOut(jobs, { ...view, most: 1 });
  assert.deepEqual(bars.map(({ job }) => job.run), ["a"]);
  assert.equal(left, 1);
});

test("a bar ends with its job, not with its deadline", () => {
  const { bars } = layOut([ended("a", 1, 10, 20)], view);
  assert.equal(bars[0].end, 20);
});

test("a trend makes up the past from what the snapshot tells", () => {
  const now = 1000 * STEP + 5;
  const state = stateOf({ seq: 4, running: [running("a", now - 100, now + 100)], ended: [ended("b", 4, now - 200, now - 50)] });
  const trend = new Trend();
  trend.follow(state, now);
  const { times, running: line, ends } = series([trend], now);
  assert.equal(times.length, STEPS);
  assert.equal(line.at(-1), 1);
  assert.equal(line.at(-8), 2);
  assert.equal(line.at(-15), 1);
  assert.equal(line.at(-40), 0);
  assert.equal(ends.done.reduce((sum, number) => sum + number), 1);
});

test("a trend does not pretend to know what the snapshot no longer tells", () => {
  const now = 1000 * STEP;
  const some = Array.from({ length: 50 }, (_, index) => ended(`r${index}`, index + 1, now - 100, now - 90 + index));
  const trend = new Trend();
  trend.follow(stateOf({ seq: 50, ended: some }), now);
  const { running: line } = series([trend], now);
  assert.equal(line.at(-30), null);
  assert.equal(line.at(-1), 0);
});

test("a trend learns more of the past from the history", () => {
  const now = 1000 * STEP;
  const some = Array.from({ length: 120 }, (_, index) => ended(`r${index}`, index + 1, now - 500 + index, now - 400 + index));
  const state = stateOf({ seq: 120, ended: some.slice(-50), running: [running("a", now - 480, now + 9)] });
  const trend = new Trend();
  trend.follow(state, now);
  assert.equal(series([trend], now).running.at(-45), null);
  trend.learn(state, { epoch: "other", jobs: some.toReversed(), before: null });
  assert.equal(trend.learned, false);
  trend.learn(state, { epoch: "e", jobs: some.toReversed(), before: null });
  const { times, running: line, ends } = series([trend], now);
  for (const step of [1, 20, 35, 41, 45, 49, 60]) {
    const at = times.at(-step);
    const alive = some.filter((job) => job.started_at <= at && at < job.ended_at).length;
    assert.equal(line.at(-step), alive + (at >= now - 480 ? 1 : 0), `${step} steps ago`);
  }
  assert.equal(ends.done.reduce((sum, number) => sum + number), 120);
});

test("each end is counted once, however often the trend looks", () => {
  const now = 1000 * STEP;
  const state = stateOf({ running: [running("a", now - 5, now + 9)] });
  const trend = new Trend();
  trend.follow(state, now);
  state.apply("killed", { room: "main", seq: 1, at: now + 1, connid: "a", run: "a", by: "bo" });
  for (let look = 0; look < 3; look++) trend.follow(state, now + 1 + look);
  trend.follow(stateOf({ seq: 1, ended: [ended("a", 1, now - 5, now + 1, { state: "killed" })] }), now + 4);
  assert.equal(series([trend], now + 4).ends.killed.at(-1), 1);
});

test("a trend forgets what is older than its span", () => {
  const trend = new Trend();
  const state = stateOf({});
  for (let step = 0; step < 500; step++) trend.follow(state, step * STEP);
  assert.equal(trend.at(100), undefined);
  assert.equal(trend.at(499).running, 0);
});

test("rooms that are read to different depths are merged without holes", () => {
  const [one, two] = [new Past(), new Past()];
  one.take({ jobs: [ended("a3", 3, 0, 30), ended("a2", 2, 0, 20)], before: 2 });
  two.take({ jobs: [ended("b1", 1, 0, 5)], before: null });
  const rooms = [{ past: one, ended: [ended("a4", 4, 0, 40)] }, { past: two, ended: [] }];
  assert.deepEqual(merge(rooms).jobs.map(({ run }) => run), ["a4", "a3", "a2"]);
  assert.equal(merge(rooms).more, true);
  one.take({ jobs: [ended("a1", 1, 0, 10)], before: null });
  assert.deepEqual(merge(rooms).jobs.map(({ run }) => run), ["a4", "a3", "a2", "a1", "b1"]);
  assert.equal(merge(rooms).more, false);
});

test("the claims of a token are read, and nonsense is not", () => {
  const payload = { sub: "Zoë", role: "operator", rooms: ["ops-*"], exp: 4_000_000_000 };
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const token = `${encode({ alg: "HS256" })}.${encode(payload)}.signature`;
  assert.deepEqual(claims(token), { name: "Zoë", role: "operator", rooms: ["ops-*"], expires: 4_000_000_000 });
  assert.equal(claims(`x.${encode({ sub: "a" })}.y`).role, "viewer");
  for (const nonsense of ["", "a", "a.b.c", "..", `x.${encode(null)}.y`, `x.${encode({ sub: 1 })}.y`]) {
    assert.equal(claims(nonsense), null, nonsense);
  }
});

test("a token is taken from the fragment of a link", () => {
  assert.equal(tokenOf("#token=a.b-c_d"), "a.b-c_d");
  assert.equal(tokenOf("#else"), null);
  assert.equal(tokenOf(""), null);
});
