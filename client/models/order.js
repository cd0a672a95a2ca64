/**
 * The rows of a list: which job is at which place. Pure.
 *
 *   const order = new Order();
 *   order.show(jobs, compare);            // sorted anew
 *   order.hold(find, jobs);               // somebody points at a row: every row keeps its place
 *   order.jobs; order.waiting;
 *
 * While it is held, a job that has ended stays where it is, as what it has become, and new ones come
 * in at the end; those above a bound wait, and `waiting` counts them.
 */

const MOST_NEW = 200;

/** @import { AnyJob } from "../follow/state.js" */
/** @import { Compare } from "./query.js" */

/** @template {AnyJob} J */
export class Order {
  /** @type {J[]} */
  jobs = [];
  waiting = 0;
  /** @type {Compare | null} */
  #sortedBy = null; // how `jobs` are sorted, while they are
  #came = 0; // jobs that have come in while it is held

  /**
   * `jobs`, sorted. What a job is sorted by never changes, so only new ones have to find a place.
   *
   * @param {J[]} jobs
   * @param {Compare} compare
   */
  show(jobs, compare) {
    const wanted = byRun(jobs);
    const kept = [];
    for (const { run } of this.#sortedBy === compare ? this.jobs : []) {
      const job = wanted.get(run);
      if (job === undefined) continue;
      kept.push(job);
      wanted.delete(run);
    }
    this.jobs = merge(kept, [...wanted.values()].sort(compare), compare);
    this.#sortedBy = compare;
    this.waiting = 0;
    this.#came = 0;
  }

  /**
   * The same rows in the same places.
   *
   * @param {(run: string) => J | undefined} find what a job is now, where that is known
   * @param {J[]} jobs
   */
  hold(find, jobs) {
    const shown = this.jobs.map((job) => find(job.run) ?? job);
    const places = byRun(shown);
    const fresh = jobs.filter((job) => !places.has(job.run));
    const coming = fresh.slice(0, MOST_NEW - this.#came);
    this.#came += coming.length;
    this.waiting = fresh.length - coming.length;
    this.jobs = [...shown, ...coming];
    this.#sortedBy = null;
  }
}

/**
 * @template {AnyJob} J
 * @param {J[]} jobs
 */
const byRun = (jobs) => new Map(jobs.map((job) => [job.run, job]));

/**
 * Two sorted lists as one; cheap when the second is short, however long the first is.
 *
 * @template {AnyJob} J
 * @param {J[]} many
 * @param {J[]} few
 * @param {Compare} compare
 */
function merge(many, few, compare) {
  const merged = [];
  let from = 0;
  for (const job of few) {
    const to = placeOf(job, many, from, compare);
    for (; from < to; from++) merged.push(many[from]);
    merged.push(job);
  }
  for (; from < many.length; from++) merged.push(many[from]);
  return merged;
}

/**
 * Where a job belongs in a sorted list, at `low` or later.
 *
 * @param {AnyJob} job
 * @param {AnyJob[]} list
 * @param {number} low
 * @param {Compare} compare
 */
function placeOf(job, list, low, compare) {
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compare(list[middle], job) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
