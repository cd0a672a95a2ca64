/**
 * Which jobs are wanted, and in which order. Pure.
 *
 *   const wanted = jobs.filter(matcher({ search: "back up", by: "ana", state: "killed" }));
 *   wanted.sort(ORDERS.left);
 *
 * Every word of the search must be in the job's name, note, people, reason or report, whatever its
 * case. `state` is one of `states(job)`. An order never calls two jobs equal, so that it is the
 * same in every browser.
 */

import { forecast } from "./forecast.js";
import { starter } from "./format.js";

/** @import { AnyJob, EndedJob } from "../follow/state.js" */

/**
 * @param {{ search?: string, by?: string, state?: string }} wanted
 * @returns {(job: AnyJob) => boolean}
 */
export function matcher({ search = "", by = "", state = "" }) {
  const words = search.split(/\s+/).filter(Boolean).map(ignoringCase);
  return (job) =>
    (by === "" || starter(job) === by) &&
    (state === "" || states(job).includes(state)) &&
    words.every((word) => textsOf(job).some((text) => text && word.test(text)));
}

/** @param {string} word */
const ignoringCase = (word) => new RegExp(word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "iu");

/** @param {AnyJob} job */
const textsOf = (job) => [job.connid, job.note, job.by, job.started_by, job.reason, job.progress?.note];

/**
 * The words that a job can be found by in the filter of states.
 *
 * @param {AnyJob} job
 */
export function states(job) {
  if (job.state !== "running") {
    const found = [job.state === "killed" ? "killed" : (job.outcome ?? "")];
    if (job.stopped_at != null) found.push("stopped");
    if (job.late) found.push("late");
    return found;
  }
  return [
    job.progress ? "reporting" : "silent",
    ...(forecast(job)?.late ? ["behind"] : []),
    ...(job.lease == null ? [] : ["leased"]),
  ];
}

export const STATES = {
  running: ["behind", "reporting", "silent", "leased"],
  ended: ["killed", "stopped", "elapsed", "done", "failed", "lost", "late"],
};

/** @typedef {(a: AnyJob, b: AnyJob) => number} Compare */

/** @type {Compare} */
const byRun = (a, b) => (a.run < b.run ? -1 : a.run > b.run ? 1 : 0);
const names = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

/** @type {Record<"left" | "start" | "name", Compare>} */
export const ORDERS = {
  left: (a, b) => a.deadline - b.deadline || byRun(a, b),
  start: (a, b) => b.started_at - a.started_at || byRun(b, a),
  name: (a, b) => names.compare(a.connid, b.connid) || byRun(a, b),
};

/**
 * Ended jobs, the latest end first.
 *
 * @param {EndedJob} a
 * @param {EndedJob} b
 */
export const byEnd = (a, b) => b.ended_at - a.ended_at || b.seq - a.seq;
