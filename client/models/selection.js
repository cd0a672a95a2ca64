/**
 * Which jobs are selected, by run. Pure.
 *
 *   selection.toggle(run); selection.reach(run, order); selection.add(runs);
 *   selection.keep((run) => isRunning(run));   // what has ended is selected no more
 */

export class Selection {
  #runs = new Set();
  #anchor = null; // where a range begins: the run that was last selected or dropped by itself

  get size() {
    return this.#runs.size;
  }

  has(run) {
    return this.#runs.has(run);
  }

  runs() {
    return [...this.#runs];
  }

  toggle(run) {
    if (!this.#runs.delete(run)) this.#runs.add(run);
    this.#anchor = run;
  }

  /** Select all from the last one touched to this one, in the order in which they are shown. */
  reach(run, order) {
    const [from, to] = [order.indexOf(this.#anchor), order.indexOf(run)].sort((a, b) => a - b);
    if (from < 0) this.toggle(run);
    else this.add(order.slice(from, to + 1));
  }

  add(runs) {
    for (const run of runs) this.#runs.add(run);
  }

  clear() {
    this.#runs.clear();
    this.#anchor = null;
  }

  /** Drop those that a test does not hold for; whether there were any. */
  keep(test) {
    const before = this.#runs.size;
    for (const run of this.#runs) if (!test(run)) this.#runs.delete(run);
    return this.#runs.size < before;
  }
}
