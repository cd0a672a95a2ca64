/**
 * How many jobs of a room were running, and how they ended, over the last minutes. Pure.
 *
 *   const trend = new Trend();
 *   trend.follow(state, serverNow);     // now and then: at least once for each STEP
 *   trend.learn(state, answer);         // what `history` answers: more of the past
 *   series([trend, …], serverNow) -> { times: […], running: […], ends: { done: […], … } }
 *
 * The past before the first call is made up from the jobs that are known, as far back as the ended
 * ones reach; before that it is null.
 */

export const STEP = 10; // seconds
export const STEPS = 90;
/** How many ended jobs a snapshot tells at most. */
const SNAPSHOT_ENDED = 50;
/** @typedef {"done" | "elapsed" | "killed" | "failed" | "lost"} End */

/** @type {End[]} */
export const ENDS = ["done", "elapsed", "killed", "failed", "lost"];

/**
 * @import { AnyJob, EndedJob, RoomState } from "../follow/state.js"
 * @import { Answer } from "../follow/connection.js"
 *
 * @typedef {Record<End, number> & { running: number | null }} Bucket what there was in one step
 *
 * @typedef {object} Series for each step, the oldest first
 * @property {number[]} times the instants of their ends
 * @property {(number | null)[]} running
 * @property {Record<End, number[]>} ends
 */

export class Trend {
  learned = false; // whether this log's history was taken
  /** @type {Map<number, Bucket>} */
  #buckets = new Map(); // by the number of the step, oldest first
  /** @type {string | null} */
  #epoch = null;
  #seq = 0; // of the last end that is counted
  #first = { seq: 0, step: 0 }; // from where on the past is known

  /**
   * @param {RoomState} state
   * @param {number} now
   */
  follow(state, now) {
    if (!state.known) return;
    if (state.epoch !== this.#epoch) this.#begin(state, now);
    for (const job of state.ended()) {
      if (job.seq <= this.#seq) break;
      this.#count(job);
    }
    this.#seq = state.seq;
    this.#bucket(stepOf(now)).running = state.size;
    this.#forget(stepOf(now) - STEPS);
  }

  /**
   * Take ended jobs, the newest first; `before` is null when there are none that are older.
   *
   * @param {RoomState} state
   * @param {Answer} answer
   */
  learn(state, { epoch, jobs = [], before }) {
    if (epoch !== this.#epoch) return;
    this.learned = true;
    const older = /** @type {EndedJob[]} */ (jobs).filter((job) => job.seq < this.#first.seq);
    for (const job of older) this.#count(job);
    const all = [...state.running(), ...state.ended(), ...older];
    const last = /** @type {EndedJob | undefined} */ (jobs.at(-1));
    this.#makeUp(all, before === null || !last ? -Infinity : stepAfter(last.ended_at), this.#first.step);
  }

  /** @param {number} step */
  at(step) {
    return this.#buckets.get(step);
  }

  /**
   * @param {RoomState} state
   * @param {number} now
   */
  #begin(state, now) {
    this.#epoch = state.epoch;
    this.#seq = 0;
    this.learned = false;
    this.#buckets.clear();
    const ended = state.ended();
    const [oldest] = ended.slice(-1);
    // Ends older than the last ones that a snapshot tells are not known.
    const first = ended.length < SNAPSHOT_ENDED ? -Infinity : stepAfter(oldest?.ended_at ?? -Infinity);
    this.#first = { seq: oldest?.seq ?? 0, step: stepOf(now) };
    this.#makeUp([...state.running(), ...ended], first, stepOf(now));
  }

  /**
   * Fill the steps from `from` to before `to` with how many of `jobs` were running at their ends.
   *
   * @param {AnyJob[]} jobs
   * @param {number} from
   * @param {number} to
   */
  #makeUp(jobs, from, to) {
    const first = Math.max(from, this.#first.step - STEPS + 1);
    if (first >= to) return;
    /** @type {Map<number, number>} */
    const changes = new Map();
    const change = (/** @type {number} */ step, /** @type {number} */ by) => changes.set(step, (changes.get(step) ?? 0) + by);
    for (const { started_at: began, ended_at: ended = Infinity } of jobs) {
      change(Math.max(first, stepAfter(began) - 1), 1);
      change(Math.max(first, stepAfter(ended) - 1), -1);
    }
    let running = 0;
    for (let step = first; step < to; step++) {
      running += changes.get(step) ?? 0;
      this.#bucket(step).running = running;
    }
    this.#first.step = first;
  }

  /** @param {EndedJob} job */
  #count(job) {
    const how = job.state === "killed" ? "killed" : job.outcome;
    if (Number.isFinite(job.ended_at) && how && ENDS.includes(how)) this.#bucket(stepOf(job.ended_at))[how] += 1;
  }

  /** @param {number} step */
  #bucket(step) {
    const bucket = this.#buckets.get(step) ?? { running: null, done: 0, elapsed: 0, killed: 0, failed: 0, lost: 0 };
    this.#buckets.set(step, bucket);
    return bucket;
  }

  /** @param {number} last */
  #forget(last) {
    for (const step of this.#buckets.keys()) if (step <= last) this.#buckets.delete(step);
  }
}

/**
 * What several rooms add up to; a step that one of them does not know is null.
 *
 * @param {Trend[]} trends
 * @param {number} now
 * @returns {Series}
 */
export function series(trends, now) {
  const last = stepOf(now);
  const steps = Array.from({ length: STEPS }, (_, index) => last - STEPS + 1 + index);
  const sum = (/** @type {number} */ step, /** @type {keyof Bucket} */ field) => {
    const values = trends.map((trend) => trend.at(step)?.[field] ?? null);
    return values.reduce((total, value) => (total === null || value === null ? null : total + value), 0);
  };
  const ends = ENDS.map((how) => [how, steps.map((step) => sum(step, how) ?? 0)]);
  return {
    times: steps.map((step) => (step + 1) * STEP),
    running: steps.map((step) => sum(step, "running")),
    ends: Object.fromEntries(ends),
  };
}

/** @param {number} at */
const stepOf = (at) => Math.floor(at / STEP);
/** @param {number} at */
const stepAfter = (at) => Math.ceil(at / STEP);
