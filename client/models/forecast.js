/**
 * When a job will be done at the pace that its last report tells. Pure.
 *
 *   forecast(job) -> { doneAt, late }; null where nothing tells
 *   forecastText(job) -> "At this pace it is done 1:10 after its time."
 *
 * There is none in the first moments of a job, whose pace says little, nor from a report of which an older
 * server did not keep when it came.
 */

import { duration, isNumber } from "./format.js";

/** The part of its time after which a job has a pace. */
const SETTLED = 0.05;

/** @import { AnyJob } from "../follow/state.js" */

/** @param {AnyJob} job */
export function forecast({ state, started_at, deadline, time, progress }) {
  if (state !== "running" || !progress || !isNumber(progress.at) || !isNumber(progress.done)) return null;
  const ran = progress.at - started_at;
  if (progress.done <= 0 || ran < SETTLED * time) return null;
  const doneAt = started_at + ran / Math.min(1, progress.done);
  return { doneAt, late: doneAt > deadline };
}

/**
 * The same as a sentence; "" where nothing tells.
 *
 * @param {AnyJob} job
 */
export function forecastText(job) {
  const found = forecast(job);
  if (!found) return "";
  const apart = duration(Math.abs(found.doneAt - job.deadline));
  return `At this pace it is done ${apart} ${found.late ? "after its time is over" : "before its time is over"}.`;
}
