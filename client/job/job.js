/**
 * Show a program's own work to everyone, and let anyone stop it: in Node 20 or newer, Bun and browsers.
 *
 *   import { job, track } from "./job.js";
 *
 *   await job("import", { time: "30m" }, async ({ signal, progress, onKill }) => {
 *     onKill(() => connection.cancel());
 *     for (const [index, url] of urls.entries()) {
 *       await fetch(url, { signal });
 *       progress(index / urls.length, url);
 *     }
 *   });
 *
 *   for await (const image of track(images, "resize", { time: "5m" })) resize(image);
 *
 * The work always runs, whatever is wrong with the server. Settings that are not given are those of the
 * command line: `HOURGLASS_URL`, `HOURGLASS_TOKEN`, `HOURGLASS_ROOM` and `HOURGLASS_BY`.
 */

import { Run } from "./run.js";

export { Killed, TimedOut } from "./killed.js";

/**
 * @import { Options } from "./options.js"
 * @import { Scope } from "./run.js"
 *
 * @typedef {Options} JobOptions
 */

/**
 * Do a piece of work as a job, and return what it returns.
 *
 * @template T
 * @param {string} name
 * @param {Options} options
 * @param {(scope: Scope) => T | Promise<T>} work gets what it needs to be stopped, and to report
 * @returns {Promise<T>}
 * @throws {import("./killed.js").Killed} when it was killed, or its time is over, and the work is gone
 */
export async function job(name, options, work) {
  const run = await Run.begin(name, options);
  try {
    run.check();
    const value = await work(run.scope);
    await run.end();
    return value;
  } catch (error) {
    throw await run.fail(error);
  }
}

/**
 * The items one after the other, while a job shows how many of them are done. A kill is thrown at the
 * next item. Left before the last item, the job has failed.
 *
 * @template T
 * @param {Iterable<T> | AsyncIterable<T>} items
 * @param {string} name
 * @param {Options & { total?: number }} options `total` is how many there are, where `items` does not tell
 * @returns {AsyncGenerator<T, void, void>}
 */
export async function* track(items, name, options) {
  const { total = lengthOf(items) } = options;
  const run = await Run.begin(name, options);
  let count = 0;
  let whole = false;
  try {
    for await (const item of items) {
      yield item;
      count += 1;
      run.count(count, total);
      const pause = run.look();
      if (pause) await pause;
      run.check();
    }
    whole = true;
    await run.end();
  } catch (error) {
    whole = true;
    throw await run.fail(error);
  } finally {
    if (!whole) await run.fail(new Error(`left after ${count}${total === undefined ? "" : ` of ${total}`}`));
  }
}

/** @param {any} items */
function lengthOf(items) {
  const length = items.length ?? items.size;
  return Number.isFinite(length) ? /** @type {number} */ (length) : undefined;
}
