/**
 * The rows of a list: which job is at which place. Pure.
 *
 *   const order = new Order();
 *   order.show(jobs, compare);            // sorted anew
 *   order.hold(find, jobs);               // somebody aims at a row: every row keeps its place
 *   order.jobs; order.waiting;
 *
 * While it is held, a job that has ended stays where it is, as what it has become, and new ones come
 * in at the end; those above a bound wait, and `waiting` counts them.
 */

const MOST_NEW = 200;

export class Order {
  jobs = [];
  waiting = 0;
  #places = new Map(); // run -> job that had a place at the last call
  #came = 0; // jobs that have come in while it is held

  /** `jobs`, sorted; what was sorted before is nearly sorted still, which makes it cheap. */
  show(jobs, compare) {
    const wanted = byRun(jobs);
    const kept = [];
    for (const run of this.#places.keys()) {
      const job = wanted.get(run);
      if (job === undefined) continue;
      kept.push(job);
      wanted.delete(run);
    }
    this.#place([...kept, ...wanted.values()].sort(compare));
    this.waiting = 0;
    this.#came = 0;
  }

  /** The same rows in the same places; `find(run)` gives what a job is now, where that is known. */
  hold(find, jobs) {
    const shown = this.jobs.map((job) => find(job.run) ?? job);
    const fresh = jobs.filter((job) => !this.#places.has(job.run));
    const coming = fresh.slice(0, MOST_NEW - this.#came);
    this.#came += coming.length;
    this.waiting = fresh.length - coming.length;
    this.#place([...shown, ...coming]);
  }

  indexOf(run) {
    return this.jobs.findIndex((job) => job.run === run);
  }

  #place(jobs) {
    this.jobs = jobs;
    this.#places = byRun(jobs);
  }
}

const byRun = (jobs) => new Map(jobs.map((job) => [job.run, job]));
