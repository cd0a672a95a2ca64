/**
 * Gives the kills that the reader asked for, and knows of each what is under way and what failed. Pure.
 *
 *   const tracker = new KillTracker((fields) => connection.command("kill", fields));
 *   await tracker.kill(job, reason);                                // throws what the command throws
 *   const result = await tracker.killAll(jobs, reason, { onProgress, signal });
 *   tracker.lookOf(job) -> { doing: "Killing" } or { error: "No answer came. …", code: "no_answer" }
 *   tracker.keep((run) => isRunning(run));                          // what has ended is forgotten
 */

import { killAll } from "./bulk.js";

/**
 * @typedef {import("../follow/state.js").Job} Job
 * @typedef {import("../follow/connection.js").CommandError} CommandError
 *
 * @typedef {object} Look what is to be seen of a kill
 * @property {string} [doing] what is under way, as a word for the button
 * @property {string} [error]
 * @property {string} [code]
 *
 * @typedef {{ connid: string, run: string, room: string, reason?: string }} KillFields
 */

/** @type {Look} */
const NOTHING = {};

export class KillTracker {
  #command;
  /** @type {Map<string, Look>} */
  #looks = new Map(); // by run

  /** @param {(fields: KillFields) => Promise<unknown>} command */
  constructor(command) {
    this.#command = command;
  }

  /** @param {{ run: string }} job */
  lookOf(job) {
    return this.#looks.get(job.run) ?? NOTHING;
  }

  /** @param {(run: string) => boolean} test */
  keep(test) {
    for (const run of this.#looks.keys()) if (!test(run)) this.#looks.delete(run);
  }

  /** What could not be sent while there was no connection is no error any more. */
  forgetUnsent() {
    for (const [run, { code }] of this.#looks) if (code === "offline") this.#looks.delete(run);
  }

  /**
   * @param {Job} job
   * @param {string} reason "" for none
   */
  async kill(job, reason) {
    this.#begin([job]);
    try {
      await this.#send(job, reason);
      this.#looks.delete(job.run);
    } catch (/** @type {any} */ error) {
      this.#failed(job, error);
      throw error;
    }
  }

  /**
   * @param {Job[]} jobs
   * @param {string} reason "" for none
   * @param {import("./bulk.js").BulkOptions} options
   */
  async killAll(jobs, reason, options) {
    this.#begin(jobs);
    const result = await killAll(jobs, (job) => this.#send(job, reason), options);
    for (const { run } of jobs) this.#looks.delete(run);
    for (const { job, error } of result.failed) this.#failed(job, error);
    return result;
  }

  /** @param {Job[]} jobs */
  #begin(jobs) {
    for (const { run } of jobs) this.#looks.set(run, { doing: "Killing" });
  }

  /**
   * @param {Job} job
   * @param {string} reason
   */
  #send({ connid, run, room }, reason) {
    return this.#command({ connid, run, room, ...(reason && { reason }) });
  }

  /**
   * @param {Job} job
   * @param {CommandError} error
   */
  #failed(job, { code, message }) {
    this.#looks.set(job.run, { error: message, code });
  }
}
