/**
 * A list of which only the rows in sight exist, however long it is.
 *
 *   const rows = new VirtualRows(list, () => new JobRow(), heading);
 *   rows.draw(jobs, look);   // look(job) -> what the row's `show` takes besides
 *   rows.tick(serverNow, still);
 *   rows.move(+1); rows.focus(run); rows.active;    // a run that is not there: focus the heading
 *
 * All rows have the height `--row` of the list, in pixels. The list may scroll by itself, in a parent
 * or with the page. One row is the active one: it holds the focus and takes the keys. A row with the
 * focus stays in the page when it is scrolled out of sight, and whoever has the focus in a row that
 * goes is left on its neighbour: on the row and not on its button, or a second Enter would kill it.
 */

import { runAt } from "../browser/dom.js";

const BEYOND = 6; // rows that are kept ready above and below what is in sight

/**
 * @import { EndedJob, Job } from "../follow/state.js"
 * @import { Look, Row } from "./rows.js"
 */

export class VirtualRows {
  #list;
  #create;
  #heading;
  /** @type {(Job | EndedJob)[]} */
  #jobs = [];
  /** @type {(job: Job | EndedJob) => Look} */
  #look = () => ({ link: "", several: false });
  /** @type {Map<string, Row>} */
  #rows = new Map(); // by run
  /** @type {string | null} */
  #active = null; // run
  #height = 0;

  /**
   * @param {HTMLElement} list
   * @param {() => Row} create
   * @param {HTMLElement} heading takes the focus where there is no row for it
   */
  constructor(list, create, heading) {
    this.#list = list;
    this.#create = create;
    this.#heading = heading;
    let asked = false;
    const redraw = () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        this.#render();
      });
    };
    // Whatever scrolls: the page, or a parent that has a bar of its own.
    document.addEventListener("scroll", redraw, { capture: true, passive: true });
    new ResizeObserver(() => {
      this.#height = 0;
      redraw();
    }).observe(this.#scroller);
    list.addEventListener("focusin", ({ target }) => this.#activate(runAt(target)));
  }

  /** The job of the active row, null where there is none. */
  get active() {
    return this.#jobs.find((job) => job.run === this.#active) ?? null;
  }

  get focused() {
    return this.#list.contains(document.activeElement);
  }

  /**
   * @param {(Job | EndedJob)[]} jobs
   * @param {(job: Job | EndedJob) => Look} look
   */
  draw(jobs, look) {
    const place = this.#focusPlace();
    this.#jobs = jobs;
    this.#look = look;
    this.#list.hidden = jobs.length === 0;
    this.#list.setAttribute("aria-rowcount", String(jobs.length));
    const lost = place !== null && !jobs.some((job) => job.run === this.#active);
    if (lost) this.#active = jobs[Math.min(place, jobs.length - 1)]?.run ?? null;
    this.#render();
    if (lost) this.#elementOf(this.#active).focus({ preventScroll: true });
  }

  /**
   * Show the time that passes; returns the seconds until the next difference.
   *
   * @param {number} serverNow
   * @param {boolean} still whether the reader wants no motion
   */
  tick(serverNow, still) {
    let wait = Infinity;
    for (const row of this.#rows.values()) wait = Math.min(wait, row.tick(serverNow, still));
    return wait;
  }

  /**
   * Make the row active that is so many places further, and give it the focus.
   *
   * @param {number} by
   */
  move(by) {
    if (this.#jobs.length === 0) return;
    const at = this.#jobs.findIndex((job) => job.run === this.#active);
    const next = at < 0 ? 0 : Math.min(this.#jobs.length - 1, Math.max(0, at + by));
    this.focus(this.#jobs[next].run);
  }

  /** @param {string} run */
  focus(run) {
    this.#activate(run);
    this.#render(this.#jobs.findIndex((job) => job.run === run));
    this.#elementOf(run).focus({ preventScroll: true });
    this.#rows.get(run)?.element.scrollIntoView({ block: "nearest" });
  }

  /** Scroll back to the first row. */
  toTop() {
    if (this.#list.getBoundingClientRect().top < this.#sight().top) this.#list.scrollIntoView({ block: "start" });
  }

  /** How many rows are in sight at once. */
  get page() {
    const { top, bottom } = this.#sight();
    return Math.max(1, Math.floor((bottom - top) / this.#rowHeight()));
  }

  /**
   * What takes the focus that is meant for a run.
   *
   * @param {string | null} run
   */
  #elementOf(run) {
    return (run === null ? undefined : this.#rows.get(run)?.element) ?? this.#heading;
  }

  get #scroller() {
    return this.#list.parentElement ?? document.body;
  }

  /** @param {string | null} run */
  #activate(run) {
    if (run === null || run === this.#active) return;
    this.#active = run;
    for (const [other, row] of this.#rows) setStop(row.element, other === run);
  }

  /** The place of the row that holds the focus, null when none does. */
  #focusPlace() {
    const run = this.focused ? runAt(document.activeElement) : null;
    const place = run === null ? -1 : this.#jobs.findIndex((job) => job.run === run);
    return place < 0 ? null : place;
  }

  /** Make the rows that are in sight, and the one at the place `also`. */
  #render(also = this.#focusPlace()) {
    if (this.#list.hidden || !this.#list.offsetParent) return this.#dropAll();
    const height = this.#rowHeight();
    this.#list.style.height = `${this.#jobs.length * height}px`;
    const wanted = this.#inSight(height, also ?? -1);
    const stop = this.#active !== null && wanted.has(this.#active) ? this.#active : wanted.keys().next().value;
    const free = this.#release(wanted);
    /** @type {HTMLElement[]} */
    const elements = [];
    for (const [run, index] of wanted) {
      const job = this.#jobs[index];
      const row = this.#rows.get(run) ?? free.pop() ?? this.#create();
      this.#rows.set(run, row);
      row.show(job, this.#look(job));
      row.element.style.transform = `translateY(${index * height}px)`;
      row.element.setAttribute("aria-rowindex", String(index + 1));
      setStop(row.element, run === stop);
      elements.push(row.element);
    }
    for (const row of free) row.element.remove();
    this.#arrange(elements);
  }

  /**
   * The rows to have, as run -> place, in order.
   *
   * @param {number} height
   * @param {number} also -1 for none
   */
  #inSight(height, also) {
    const { top } = this.#list.getBoundingClientRect();
    const sight = this.#sight();
    const first = Math.max(0, Math.floor((sight.top - top) / height) - BEYOND);
    const last = Math.min(this.#jobs.length, Math.ceil((sight.bottom - top) / height) + BEYOND);
    /** @type {Map<string, number>} */
    const wanted = new Map();
    if (also >= 0 && also < first) wanted.set(this.#jobs[also].run, also);
    for (let index = first; index < last; index++) wanted.set(this.#jobs[index].run, index);
    if (also >= last) wanted.set(this.#jobs[also].run, also);
    return wanted;
  }

  /** Where on the screen rows can be seen. */
  #sight() {
    const { top, bottom } = this.#scroller.getBoundingClientRect();
    return { top: Math.max(0, top), bottom: Math.max(0, Math.min(innerHeight, bottom)) };
  }

  #rowHeight() {
    this.#height ||= parseFloat(getComputedStyle(this.#list).getPropertyValue("--row"));
    return this.#height;
  }

  /**
   * Release the rows that are not wanted; returns those that can show another job.
   *
   * @param {Map<string, number>} wanted
   */
  #release(wanted) {
    /** @type {Row[]} */
    const free = [];
    for (const [run, row] of this.#rows) {
      if (wanted.has(run)) continue;
      this.#rows.delete(run);
      // One with the focus must not become another job's: the next key would be meant for this one.
      if (row.element.contains(document.activeElement)) row.element.remove();
      else free.push(row);
    }
    return free;
  }

  #dropAll() {
    for (const row of this.#rows.values()) row.element.remove();
    this.#rows.clear();
  }

  /**
   * Bring the elements into the order in which they are read, without moving the one in focus.
   *
   * @param {HTMLElement[]} elements
   */
  #arrange(elements) {
    const fixed = elements.findIndex((element) => element.contains(document.activeElement));
    if (fixed >= 0 && elements[fixed] !== this.#list.children[fixed]) {
      elements[fixed].before(...elements.slice(0, fixed));
      elements[fixed].after(...elements.slice(fixed + 1));
    }
    let place = this.#list.firstElementChild;
    for (const element of elements) {
      if (element === place) place = element.nextElementSibling;
      else this.#list.insertBefore(element, place);
    }
  }
}

/**
 * Let the Tab key stop at a row and at what is in it, or pass it over.
 *
 * @param {HTMLElement} row
 * @param {boolean} on
 */
function setStop(row, on) {
  const index = on ? 0 : -1;
  if (row.tabIndex === index) return;
  row.tabIndex = index;
  for (const inner of /** @type {NodeListOf<HTMLElement>} */ (row.querySelectorAll("a, button, input"))) inner.tabIndex = index;
}
