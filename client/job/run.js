/**
 * One run of a job, as its program sees it: its signal, its reports and its end.
 *
 *   const run = await Run.begin("import", { time: "30m" });
 *   try { await work(run.scope); await run.end(); } catch (error) { throw await run.fail(error); }
 */

import { theKeeper } from "./keeper.js";
import { Killed, TimedOut } from "./killed.js";
import { planOf, settingsOf } from "./options.js";

/** How long the work waits for the server at its start. */
const START_MS = 200;
/** How long the end of a job may take to be told. */
const TELL_MS = 1_000;
/** Between two reports that are passed on, and two looks for a kill by work that lets nothing else run. */
const REPORT_MS = 250;
const LOOK_MS = 50;
/** The longest that a timer can wait. */
const LONGEST_MS = 2 ** 31 - 1;
const MOST_NOTE = 500;

/**
 * @import { End } from "./session.js"
 * @import { Notice } from "./host.js"
 * @import { Outcome, Report } from "./kept-job.js"
 * @import { Options } from "./options.js"
 *
 * @typedef {ReturnType<typeof setTimeout> | undefined} Timer
 *
 * @typedef {object} Scope what the work is given
 * @property {AbortSignal} signal aborted when it is killed, its time is over, or the program says so
 * @property {(done?: number | null, note?: string | null) => void} progress shows how far it is, from 0 to 1
 *   and in words; throws Killed when the work is to stop
 * @property {(callback: (killed: Killed) => void) => () => void} onKill has something called when it is
 *   killed, or its time is over; returns what takes it back
 * @property {(result: unknown) => void} leave what is shown as the result of the job: any JSON, up to 4 KiB
 */

export class Run {
  #keeper;
  #id;
  #limitAt; // by `performance.now()`
  #stopping = new AbortController();
  /** @type {Set<(killed: Killed) => void>} */
  #onKill = new Set();
  /** @type {Killed | null} */
  #killed = null;
  /** @type {unknown} */
  #result;
  /** @type {Report} */
  #report = { done: null, note: null };
  #reportedAt = -Infinity;
  /** @type {Timer} */
  #reporting; // set while the last report waits
  #lookedAt = performance.now();
  /** @type {Timer} */
  #limit;
  #settled = event(); // the server has answered, or is away
  #over = event(); // it knows how the job has ended, or need not
  #away = false;
  #left = false;
  #onProblem;
  #unfollow = () => {};
  /** @type {Scope} */
  scope = {
    signal: this.#stopping.signal,
    progress: (done = null, note = null) => this.#progress(done, note),
    onKill: (callback) => {
      this.#onKill.add(callback);
      return () => this.#onKill.delete(callback);
    },
    leave: (result) => (this.#result = result),
  };

  /**
   * @param {Awaited<ReturnType<typeof theKeeper>>} keeper
   * @param {string} name
   * @param {Options} options
   */
  constructor(keeper, name, options) {
    const plan = planOf(name, options);
    this.#keeper = keeper;
    this.#onProblem = options.onProblem ?? (() => {});
    if (options.onKill) this.#onKill.add(options.onKill);
    this.#limitAt = performance.now() + plan.time * 1000;
    this.#waitForLimit();
    this.#follow(options.signal);
    this.#id = keeper.begin(settingsOf(options), plan, (notice) => this.#heard(notice));
  }

  /**
   * Throws a TypeError or a RangeError for what can never be a job; whatever else is wrong, the work runs.
   *
   * @param {string} name
   * @param {Options} options
   */
  static async begin(name, options) {
    planOf(name, options);
    options.signal?.throwIfAborted();
    const run = new Run(await theKeeper(), name, options);
    await within(START_MS, run.#settled.happened);
    return run;
  }

  /**
   * Look for a kill, now and then, where the work may let nothing else run. A page has to be given a
   * moment for that: then there is something to await.
   */
  look() {
    const now = performance.now();
    if (now - this.#lookedAt < LOOK_MS) return undefined;
    this.#lookedAt = now;
    if (now >= this.#limitAt) this.#expire();
    return this.#keeper.drain();
  }

  /** Throws what the work is to stop with, if it is. */
  check() {
    this.#stopping.signal.throwIfAborted();
  }

  /**
   * @param {number} count of the items that are done
   * @param {number | undefined} total
   */
  count(count, total) {
    if (total === undefined) this.#show(null, String(count));
    else this.#show(count / total, `${count}/${total}`);
  }

  /** The work is done. Throws what it was stopped with meanwhile. */
  async end() {
    if (this.#killed) throw this.#killed;
    await this.#leave("done", this.#result);
  }

  /**
   * The work has failed, or was stopped; what its program is to see thrown.
   *
   * @param {unknown} error
   */
  async fail(error) {
    if (this.#killed === null) {
      await this.#leave("failed", this.#result ?? { error: String(error).slice(0, MOST_NOTE) });
      return error;
    }
    await this.#leave("stopped", undefined);
    if (error !== this.#killed) this.#killed.cause = error;
    return this.#killed;
  }

  /**
   * @param {Outcome} outcome
   * @param {unknown} result
   */
  async #leave(outcome, result) {
    if (this.#reporting !== undefined) this.#passOn();
    this.#left = true;
    clearTimeout(this.#limit);
    this.#unfollow();
    this.#keeper.post({ id: this.#id, type: "leave", outcome, result: plain(result) });
    if (!this.#away) await within(TELL_MS, this.#over.happened);
  }

  /**
   * @param {number | null} done
   * @param {string | null} note
   */
  #progress(done, note) {
    this.#show(done, note);
    this.look();
    this.check();
  }

  /**
   * @param {number | null} done
   * @param {string | null} note
   */
  #show(done, note) {
    this.#report = { done, note };
    const wait = this.#reportedAt + REPORT_MS - performance.now();
    if (wait <= 0) this.#passOn();
    else this.#reporting ??= unheld(() => this.#passOn(), wait);
  }

  #passOn() {
    clearTimeout(this.#reporting);
    this.#reporting = undefined;
    if (this.#left) return;
    this.#reportedAt = performance.now();
    const { done, note } = this.#report;
    const share = Number.isFinite(done) ? Math.min(1, Math.max(0, Number(done))) : null;
    const text = note === null ? null : String(note).slice(0, MOST_NOTE);
    this.#keeper.post({ id: this.#id, type: "report", done: share, note: text });
  }

  /** @param {AbortSignal | undefined} signal */
  #follow(signal) {
    if (!signal) return;
    const abort = () => this.#stopping.abort(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort);
    this.#unfollow = () => signal.removeEventListener("abort", abort);
  }

  #waitForLimit() {
    const left = this.#limitAt - performance.now();
    if (left <= 0) this.#expire();
    else this.#limit = unheld(() => this.#waitForLimit(), Math.min(LONGEST_MS, Math.ceil(left)));
  }

  /** @param {Notice} notice */
  #heard(notice) {
    if (notice.type === "problem") quietly(() => this.#onProblem(notice.data));
    if (notice.type === "ended") this.#endedBy(notice.data);
    if (notice.type === "extended") this.#limitAt += notice.data * 1000;
    if (notice.type === "away" || notice.type === "reached") this.#away = notice.type === "away";
    if (notice.type !== "reached") this.#settled.happen();
    if (notice.type === "over") this.#over.happen();
  }

  /** @param {End} end */
  #endedBy({ state, by = null, reason = null }) {
    if (state === "killed") this.#stop(new Killed(sentence(by, reason), { by, reason }));
    else this.#expire();
  }

  #expire() {
    this.#stop(new TimedOut("the time of the job is over"));
  }

  /** @param {Killed} killed */
  #stop(killed) {
    if (this.#killed !== null || this.#left) return;
    this.#killed = killed;
    this.#stopping.abort(killed);
    for (const callback of this.#onKill) quietly(() => callback(killed));
  }
}

/**
 * @param {string | null} by
 * @param {string | null} reason
 */
const sentence = (by, reason) => `killed by ${by || "someone"}${reason ? `: ${reason}` : ""}`;

/**
 * A value as JSON has it, which goes from thread to thread; null for what JSON has not.
 *
 * @param {unknown} value
 */
function plain(value) {
  try {
    return JSON.parse(JSON.stringify(value) ?? "null");
  } catch {
    return null;
  }
}

/**
 * Call what is not ours: what it throws must not hurt the work.
 *
 * @param {() => void} act
 */
function quietly(act) {
  try {
    act();
  } catch {
    // Whoever gave it has to look after it.
  }
}

/**
 * A timer that holds no program at its exit.
 *
 * @param {() => void} act
 * @param {number} ms
 */
function unheld(act, ms) {
  const timer = setTimeout(act, ms);
  /** @type {any} */ (timer).unref?.();
  return timer;
}

/**
 * Wait for something, but not for longer.
 *
 * @param {number} ms
 * @param {Promise<void>} happened
 */
async function within(ms, happened) {
  /** @type {Timer} */
  let timer;
  await Promise.race([happened, new Promise((over) => (timer = setTimeout(over, ms)))]);
  clearTimeout(timer);
}

/** Something that happens once, and can be waited for. */
function event() {
  /** @type {() => void} */
  let happen = () => {};
  const happened = new Promise((/** @type {(value: void) => void} */ resolve) => (happen = resolve));
  return { happen, happened };
}
