import assert from "node:assert/strict";
import { test } from "node:test";
import { forecast, forecastText } from "../../client/models/forecast.js";
import { matcher } from "../../client/models/query.js";

const job = (progress, more = {}) => ({ state: "running", connid: "a", started_at: 1000, time: 100, deadline: 1100, progress, ...more });

test("a job is done when its pace says so", () => {
  assert.deepEqual(forecast(job({ done: 0.5, note: null, at: 1020 })), { doneAt: 1040, late: false });
  assert.deepEqual(forecast(job({ done: 0.25, note: null, at: 1050 })), { doneAt: 1200, late: true });
  assert.equal(forecastText(job({ done: 0.25, note: null, at: 1050 })), "At this pace it is done 1:40 after its time is over.");
  assert.equal(forecastText(job({ done: 0.5, note: null, at: 1020 })), "At this pace it is done 1:00 before its time is over.");
});

test("where nothing tells of a pace there is no forecast", () => {
  const silent = [null, { done: null, note: "x", at: 1050 }, { done: 0.5, note: null }, { done: 0, note: null, at: 1050 }];
  for (const progress of silent) assert.equal(forecast(job(progress)), null);
  assert.equal(forecast(job({ done: 0.01, note: null, at: 1004 })), null, "it has only begun");
  assert.equal(forecast(job({ done: 0.25, note: null, at: 1050 }, { state: "finished" })), null);
});

test("jobs that will not make it are found", () => {
  const late = job({ done: 0.25, note: null, at: 1050 });
  const early = job({ done: 0.5, note: null, at: 1020 });
  assert.deepEqual([late, early].map(matcher({ state: "behind" })), [true, false]);
});
