/**
 * Which jobs are selected, by run. Pure.
 *
 *   selection.toggle(run); selection.reach(run, order); selection.add(runs);
 *   selection.keep((run) => isRunning(run));   // what has ended is selected no more
 */

export class Selection {
  /** @type {Set<string>} */
  #runs = new Set();
  /** @type {string | null} */
  #anchor = null; // where a range begins: the run that was last selected or dropped by itself

  get size() {
    return this.#runs.size;
  }

  /** @param {string} run */
  has(run) {
    return this.#runs.has(run);
  }

  runs() {
    return [...this.#runs];
  }

  /** @param {string} run */
  toggle(run) {
    if (!this.#runs.delete(run)) this.#runs.add(run);
    this.#anchor = run;
  }

  /**
   * Select all from the last one touched to this one.
   *
   * @param {string} run
   * @param {string[]} order in which they are shown
   */
  reach(run, order) {
    const anchor = this.#anchor === null ? -1 : order.indexOf(this.#anchor);
    const [from, to] = [anchor, order.indexOf(run)].sort((a, b) => a - b);
    if (from < 0) this.toggle(run);
    else this.add(order.slice(from, to + 1));
  }

  /** @param {string[]} runs */
  add(runs) {
    for (const run of runs) this.#runs.add(run);
  }

  clear() {
    this.#runs.clear();
    this.#anchor = null;
  }

  /**
   * Drop those that a test does not hold for; whether there were any.
   *
   * @param {(run: string) => boolean} test
   */
  keep(test) {
    const before = this.#runs.size;
    for (const run of this.#runs) if (!test(run)) this.#runs.delete(run);
    return this.#runs.size < before;
  }
}
