/**
 * Kills many jobs, a few at a time, and counts what became of them. Pure.
 *
 *   const result = await killAll(jobs, (job) => connection.command("kill", …), { onProgress, signal });
 *   result -> { killed, gone, unsent, failed: [{ job, error }] }
 *
 * `gone` had ended before; `unsent` were not tried, since the connection was lost or the `signal` said
 * stop. A kill that was not answered is among the failed and is not tried again.
 */

const CONCURRENCY = 32;

/**
 * @typedef {import("../follow/state.js").Job} Job
 *
 * @typedef {object} BulkResult
 * @property {number} killed
 * @property {number} gone
 * @property {number} unsent
 * @property {{ job: Job, error: import("../follow/connection.js").CommandError }[]} failed
 *
 * @typedef {object} BulkOptions
 * @property {(result: BulkResult) => void} [onProgress] is called after each job
 * @property {AbortSignal} [signal]
 * @property {(seconds: number) => Promise<void>} [pause]
 */

/**
 * @param {Job[]} jobs
 * @param {(job: Job) => Promise<unknown>} kill
 * @param {BulkOptions} [options]
 */
export async function killAll(jobs, kill, { onProgress = () => {}, signal, pause = wait } = {}) {
  /** @type {BulkResult} */
  const result = { killed: 0, gone: 0, unsent: 0, failed: [] };
  const waiting = jobs.values();
  let offline = false;

  async function work() {
    for (const job of waiting) {
      await one(job);
      onProgress(result);
    }
  }

  /** @param {Job} job */
  async function one(job) {
    if (offline || signal?.aborted) {
      result.unsent += 1;
      return;
    }
    try {
      await kill(job);
      result.killed += 1;
    } catch (/** @type {any} */ error) {
      await failed(job, error);
    }
  }

  /**
   * @param {Job} job
   * @param {import("../follow/connection.js").CommandError} error
   */
  async function failed(job, error) {
    if (error.code === "rate_limited") {
      await pause(error.retryAfter ?? 1);
      await one(job);
    } else if (error.code === "not_running") {
      result.gone += 1;
    } else if (error.code === "offline") {
      offline = true;
      result.unsent += 1;
    } else {
      result.failed.push({ job, error });
    }
  }

  await Promise.all(Array.from({ length: Math.min(CONCURRENCY, jobs.length) }, work));
  return result;
}

/** @param {number} seconds */
const wait = (seconds) => new Promise((/** @type {(value: void) => void} */ resume) => setTimeout(resume, seconds * 1000));
