/**
 * Shows the jobs of a BullMQ worker (5 or 6), and lets anyone stop one: it fails then, and is not tried
 * again, however many attempts it has left.
 *
 *   import { Worker } from "bullmq";
 *   import { shown } from "./job/bullmq.js";
 *
 *   const work = async (job, token, signal) => { … await fetch(job.data.url, { signal }); … };
 *   new Worker("images", shown(work, { time: "10m" }), { connection });
 *
 * What `job.updateProgress` is told is shown too: a number as percent, or `{ done, note }`.
 */

import { job as run, Killed } from "./job.js";

/**
 * @import { Options } from "./options.js"
 * @import { Scope } from "./run.js"
 *
 * @typedef {object} QueuedJob what this needs of a job of BullMQ
 * @property {string} name
 * @property {string} [id]
 * @property {string} queueName
 * @property {(value: any) => Promise<void>} updateProgress
 *
 * @typedef {Options & { name?: (job: any) => string }} BullOptions `name` is what the board shows, unless
 *   given the name of the job
 */

/**
 * A processor for BullMQ that does the same work, as a job that everyone sees.
 *
 * @template T
 * @param {(job: any, token: string | undefined, signal: AbortSignal, scope: Scope) => T | Promise<T>} work
 * @param {BullOptions} options
 */
export function shown(work, { name = ({ name: own }) => own, ...options }) {
  // BullMQ makes the signal of its own `cancelJob` only for a function with three parameters.
  return async (/** @type {QueuedJob} */ job, /** @type {string | undefined} */ token, /** @type {AbortSignal | undefined} */ signal) => {
    const note = options.note ?? `${job.queueName} #${job.id}`;
    try {
      return await run(name(job), { ...options, note, ...(signal && { signal }) }, (scope) => {
        showProgress(job, scope);
        return work(job, token, scope.signal, scope);
      });
    } catch (error) {
      throw error instanceof Killed ? unrecoverable(error) : error;
    }
  };
}

/**
 * @param {QueuedJob} job
 * @param {Scope} scope
 */
function showProgress(job, { progress }) {
  const update = job.updateProgress.bind(job);
  job.updateProgress = async (value) => {
    if (typeof value === "number") progress(value / 100);
    else if (value !== null && typeof value === "object") progress(value.done, value.note);
    await update(value);
  };
}

/**
 * What BullMQ knows as an error after which a job is not tried again, by its name.
 *
 * @param {Killed} killed
 */
function unrecoverable(killed) {
  const error = new Error(killed.message, { cause: killed });
  error.name = "UnrecoverableError";
  return error;
}
