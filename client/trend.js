/**
 * How many jobs of a room were running, and how they ended, over the last minutes. Pure.
 *
 *   const trend = new Trend();
 *   trend.follow(state, serverNow);     // now and then: at least once for each STEP
 *   series([trend, …], serverNow) -> { times: […], running: […], ends: { done: […], … } }
 *
 * The past before the first call is made up from what a snapshot tells, as far back as its last
 * ended jobs reach; before that it is null.
 */

export const STEP = 10; // seconds
export const STEPS = 90;
export const ENDS = ["done", "elapsed", "killed", "failed", "lost"];

export class Trend {
  #buckets = new Map(); // number of the step -> { running, done, elapsed, … }, oldest first
  #epoch = null;
  #seq = 0; // of the last end that is counted

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

  at(step) {
    return this.#buckets.get(step);
  }

  #begin(state, now) {
    this.#epoch = state.epoch;
    this.#seq = 0;
    this.#buckets.clear();
    const ended = state.ended();
    const all = [...state.running(), ...ended];
    // Ends older than the last ones that a snapshot tells are not known.
    const first = ended.length < 50 ? -Infinity : Math.ceil(ended.at(-1).ended_at / STEP);
    const last = stepOf(now);
    for (let step = Math.max(last - STEPS + 1, first); step < last; step++) {
      const at = (step + 1) * STEP;
      const lives = ({ started_at: from, ended_at: to = Infinity }) => from <= at && at < to;
      this.#bucket(step).running = all.reduce((sum, job) => sum + lives(job), 0);
    }
  }

  #count(job) {
    const how = job.state === "killed" ? "killed" : job.outcome;
    if (Number.isFinite(job.ended_at) && ENDS.includes(how)) this.#bucket(stepOf(job.ended_at))[how] += 1;
  }

  #bucket(step) {
    if (!this.#buckets.has(step)) {
      this.#buckets.set(step, { running: null, ...Object.fromEntries(ENDS.map((how) => [how, 0])) });
    }
    return this.#buckets.get(step);
  }

  #forget(last) {
    for (const step of this.#buckets.keys()) if (step <= last) this.#buckets.delete(step);
  }
}

/** What several rooms add up to; a step that one of them does not know is null. */
export function series(trends, now) {
  const last = stepOf(now);
  const steps = Array.from({ length: STEPS }, (_, index) => last - STEPS + 1 + index);
  const sum = (step, field) => {
    const values = trends.map((trend) => trend.at(step)?.[field] ?? null);
    return values.includes(null) ? null : values.reduce((total, value) => total + value, 0);
  };
  return {
    times: steps.map((step) => (step + 1) * STEP),
    running: steps.map((step) => sum(step, "running")),
    ends: Object.fromEntries(ENDS.map((how) => [how, steps.map((step) => sum(step, how) ?? 0)])),
  };
}

const stepOf = (at) => Math.floor(at / STEP);
