import assert from "node:assert/strict";
import { test } from "node:test";
import {
  count,
  duration,
  ending,
  instant,
  life,
  resultText,
  stopped,
  timeLeft,
  typedTime,
  watchers,
} from "../../client/models/format.js";
import { typedSeconds } from "../../client/job/seconds.js";

test("a duration reads like a clock, then in hours, then in days", () => {
  const expected = [
    [0, "0:00"],
    [9.99, "0:09"],
    [65, "1:05"],
    [3599, "59:59"],
    [3600, "1h 00m"],
    [7384, "2h 03m"],
    [86399, "23h 59m"],
    [86400, "1d 00h"],
    [30 * 86400, "30d 00h"],
  ];
  for (const [seconds, text] of expected) assert.equal(duration(seconds), text);
});

test("what is no number of seconds reads as a dash", () => {
  for (const nothing of [undefined, null, Number.NaN, Infinity, "12"]) {
    assert.equal(duration(nothing), "–");
  }
});

test("time left is rounded up, so that zero means over", () => {
  assert.equal(timeLeft(0.2), "0:01");
  assert.equal(timeLeft(59.1), "1:00");
  assert.equal(timeLeft(60), "1:00");
  assert.equal(timeLeft(60.0000001), "1:00");
  assert.equal(timeLeft(0), "0:00");
  assert.equal(timeLeft(-5), "0:00");
  assert.equal(timeLeft(3599.5), "1h 00m");
});

test("a typed time is explained from a minute on", () => {
  assert.equal(typedTime("90"), "= 1:30");
  assert.equal(typedTime(" 7200 "), "= 2h 00m");
  for (const text of ["", " ", "59", "soon", "-90", "Infinity"]) assert.equal(typedTime(text), "");
});

test("a time is typed in seconds or with units", () => {
  const expected = [
    ["90", 90],
    [" 1.5 ", 1.5],
    ["90s", 90],
    ["5m", 300],
    ["1h 30m", 5400],
    ["1H30M", 5400],
    ["2d", 172_800],
    ["0.5h", 1800],
  ];
  for (const [text, seconds] of expected) assert.equal(typedSeconds(text), seconds, text);
  for (const text of ["", "soon", "-5", "5 weeks", "m", "1e9x"]) assert.equal(typedSeconds(text), null, text);
});

test("a life is told in order, with what users wrote apart", () => {
  const told = life({
    ...{ connid: "etl", time: 300, started_at: 1000, by: "ben", started_by: "ana", note: "weekly" },
    ...{ state: "killed", ended_at: 1012, reason: "slow", via: "http", stopped_at: 1013, exit: 143 },
    progress: { done: 0.25, note: "1 of 4" },
  });
  assert.deepEqual(
    told.map(({ at, what, text }) => [at, what, text]),
    [
      [1000, "Started by ana for 5:00", "weekly"],
      [undefined, "Last report: 25%", "1 of 4"],
      [1012, "Killed by ben via http", "slow"],
      [1013, "Its owner says that the work has stopped, exit 143", ""],
    ],
  );
});

test("the life of a job tells who has given it more time", () => {
  const job = { state: "running", connid: "a", by: "ana", started_at: 10, time: 900, deadline: 910, note: null };
  const move = { run: "r", seq: 2, at: 30, by: "ben", time: 900 };
  const report = { progress: { done: 0.5, note: null, at: 20 } };
  assert.deepEqual(
    life({ ...job, ...report }, [move]).map(({ at, what }) => [at, what]),
    [
      [10, "Started by ana"],
      [20, "Last report: 50%"],
      [30, "More time from ben: 15:00 in all"],
    ],
  );
});

test("the life of a job that was lost and amended tells both", () => {
  const amended = {
    ...{ connid: "etl", time: 300, started_at: 1000, by: "ana", started_by: "ana", state: "finished" },
    ...{ outcome: "failed", ended_at: 1012, amended_at: 1050, result: { exit: 3 }, late: true },
  };
  assert.deepEqual(
    life(amended).map(({ at, what, text }) => [at, what, text]),
    [
      [1000, "Started by ana for 5:00", ""],
      [1012, "Lost, recorded late", ""],
      [1050, "Its owner tells how it ended: Failed", '{"exit":3}'],
    ],
  );
  assert.ok(ending(amended).facts.includes("lost until its owner told"));
});

test("numbers of things are counted as people do", () => {
  assert.equal(count(1, "job"), "1 job");
  assert.equal(count(1200, "job"), "1,200 jobs");
  assert.equal(count(2, "match", "matches"), "2 matches");
});

test("an instant names the day only when it was another one", () => {
  const noon = new Date(2025, 10, 23, 12, 0, 5).getTime() / 1000;
  assert.equal(instant(noon, noon + 60, "en-GB"), "12:00:05");
  assert.equal(instant(noon, noon + 86400, "en-GB"), "23 Nov, 12:00:05");
  assert.equal(instant(undefined), "");
});

const job = { connid: "etl", time: 300, started_at: 1000, ended_at: 1012, started_by: "ana" };

test("a killed job says by whom and through what", () => {
  const killed = { ...job, state: "killed", by: "ben", via: "socket" };
  assert.deepEqual(ending(killed), {
    tone: "killed",
    label: "Killed",
    by: "by ben",
    facts: ["started by ana", "ran 0:12 of 5:00"],
  });
  assert.equal(ending({ ...killed, via: "http" }).by, "by ben via http");
  assert.equal(ending({ ...killed, by: null }).by, "by someone");
  assert.equal(ending({ ...killed, by: null, via: "server" }).by, "by the server");
});

test("a finished job says how, in words", () => {
  const label = (outcome) => ending({ ...job, state: "finished", by: "ana", outcome }).label;
  assert.equal(label("elapsed"), "Time ran out");
  assert.equal(label("done"), "Done");
  assert.equal(label("failed"), "Failed");
  assert.equal(label("lost"), "Lost");
  assert.equal(label("constructor"), "Finished");
});

test("a job whose work has stopped says so, with its exit", () => {
  const facts = (more) => ending({ ...job, state: "killed", ...more }).facts.at(-1);
  assert.equal(facts({ stopped_at: 1013, exit: 0 }), "work has stopped, exit 0");
  assert.equal(facts({ stopped_at: 1013, exit: null }), "work has stopped");
  assert.equal(stopped({ stopped_at: 1013, exit: 143 }), "exit 143");
  assert.equal(stopped({ stopped_at: 1013, exit: null }), "stopped");
  assert.equal(stopped({ state: "killed" }), "");
});

test("an ended job of which only the end is known has no made-up times", () => {
  assert.deepEqual(ending({ state: "finished", outcome: "done", ended_at: 9 }).facts, ["started by someone"]);
});

test("a result is one line of text", () => {
  assert.equal(resultText("42 rows"), "42 rows");
  assert.equal(resultText({ rows: 42 }), '{"rows":42}');
  assert.equal(resultText(0), "0");
  assert.equal(resultText(null), "");
});

test("watchers are counted, and named once each", () => {
  const presence = { watching: 4, names: ["ana", "ben", "ana", ""] };
  assert.deepEqual(watchers(presence), { count: "4 watching", names: "ana, ben" });
  assert.deepEqual(watchers(null), { count: "", names: "" });
});
