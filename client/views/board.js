/**
 * The running jobs: a list that is live, and holds still while the reader points at a row.
 *
 *   const board = new Board({ changed, find, open, kill, lookOf });
 *   board.draw(jobs, { view, several, total, known, filtered });
 *   board.tick(serverNow, still);
 *
 * `changed()` asks for another draw. `open(job)` and `kill(jobs)` are what the reader asked for;
 * `find(run)` gives a job as it is now, and `lookOf(job)` what is known of its kill.
 */

import { PointerHold } from "../browser/pointer-hold.js";
import { byId, isTyping, opensRow, runAt, setText, within } from "../browser/dom.js";
import { linkOf } from "../models/address.js";
import { Order } from "../models/order.js";
import { matcher, ORDERS } from "../models/query.js";
import { JobRow } from "./rows.js";
import { Selection } from "../models/selection.js";
import { announce } from "./toasts.js";
import { VirtualRows } from "./virtual.js";
import { count } from "../models/format.js";

/**
 * @import { EndedJob, Job } from "../follow/state.js"
 * @import { View } from "../models/address.js"
 *
 * @typedef {object} Actions
 * @property {() => void} changed
 * @property {(run: string) => Job | EndedJob | undefined} find
 * @property {(job: Job | EndedJob) => void} open
 * @property {(jobs: (Job | EndedJob | undefined)[]) => void} kill
 * @property {(job: Job | EndedJob) => import("../models/kill-tracker.js").Look} lookOf
 *
 * @typedef {object} Look how the list is shown
 * @property {View} view
 * @property {boolean} several whether jobs of several rooms are mixed
 * @property {number} total of the running jobs, whether they match or not
 * @property {boolean} known whether an empty list means that nothing is running
 * @property {boolean} filtered
 */

export class Board {
  selection = new Selection();
  #actions;
  /** @type {Order<Job | EndedJob>} */
  #order = new Order();
  #rows;
  #list = byId("running");
  #all = byId("select-all", HTMLInputElement);
  /** @type {Job[]} */
  #matching = []; // running jobs that match, in no order
  #query = "";
  #hold;

  /** @param {Actions} actions */
  constructor(actions) {
    this.#actions = actions;
    this.#rows = new VirtualRows(this.#list, () => new JobRow(), byId("tab-running"));
    this.#hold = new PointerHold(this.#list, actions.changed);
    this.#list.addEventListener("click", (click) => this.#clicked(click));
    this.#all.addEventListener("change", () => this.selectAll(this.#all.checked));
    byId("kill-selected").addEventListener("click", () => this.killSelected());
    byId("clear-selected").addEventListener("click", () => this.clearSelection());
  }

  get rows() {
    return this.#rows;
  }

  /**
   * @param {Job[]} jobs
   * @param {Look} look
   */
  draw(jobs, { view, several, total, known, filtered }) {
    const { find } = this.#actions;
    const wanted = jobs.filter(matcher(view));
    const query = [view.search, view.by, view.state, view.sort, view.rooms, view.only].join("\n");
    const held = query === this.#query && this.#hold.active && this.#order.jobs.length > 0;
    const asked = query !== this.#query;
    if (asked) this.#rows.toTop();
    this.#query = query;
    this.#matching = wanted;
    if (held) this.#order.hold(find, wanted);
    else this.#order.show(wanted, ORDERS[view.sort]);
    this.selection.keep((run) => find(run)?.state === "running");
    this.#rows.draw(this.#order.jobs, (job) => ({
      selected: this.selection.has(job.run),
      several,
      link: linkOf(job),
      ...this.#actions.lookOf(job),
    }));
    this.#showAbove({ total, filtered, known });
    if (asked && filtered) announce(byId("found").textContent);
    this.#showSelection();
  }

  /** Hold nothing that was shown. */
  forget() {
    this.#order = new Order();
    this.selection.clear();
  }

  /**
   * @param {number} serverNow
   * @param {boolean} still whether the reader wants no motion
   */
  tick(serverNow, still) {
    return this.#rows.tick(serverNow, still);
  }

  selectAll(on = true) {
    if (on) this.selection.add(this.#matching.map((job) => job.run));
    else this.selection.clear();
    this.#actions.changed();
  }

  clearSelection() {
    this.selection.clear();
    this.#actions.changed();
  }

  /**
   * Select a job or drop it; `reach` selects all from the last one touched to it.
   *
   * @param {Job | EndedJob} job
   */
  toggle(job, reach = false) {
    if (job.state !== "running") return;
    const order = this.#order.jobs.map(({ run }) => run);
    if (reach) this.selection.reach(job.run, order);
    else this.selection.toggle(job.run);
    this.#actions.changed();
  }

  /** Kill what is selected, else the active job. */
  killSelected() {
    const selected = this.#order.jobs.filter((job) => this.selection.has(job.run));
    const hidden = this.selection.runs().length - selected.length;
    const jobs = hidden > 0 ? this.selection.runs().map(this.#actions.find) : selected;
    const active = this.#rows.focused ? this.#rows.active : null;
    if (jobs.length > 0) this.#actions.kill(jobs);
    else if (active?.state === "running") this.#actions.kill([active]);
  }

  /** @param {MouseEvent} click */
  #clicked(click) {
    const { target } = click;
    const run = runAt(target);
    const job = this.#order.jobs.find((other) => other.run === run);
    if (!job || !(target instanceof Element)) return;
    if (target.closest("input")) {
      this.toggle(job, click.shiftKey);
    } else if (target.closest(".kill")) {
      if (target.closest(".kill")?.getAttribute("aria-disabled") !== "true") this.#actions.kill([job]);
    } else if (!target.closest(".select") && !isTyping(target) && opensRow(click)) {
      click.preventDefault();
      this.#actions.open(job);
    }
  }

  /** @param {{ total: number, filtered: boolean, known: boolean }} look */
  #showAbove({ total, filtered, known }) {
    const shown = this.#matching.length;
    setText(byId("found"), filtered && known ? `${shown.toLocaleString("en")} of ${count(total, "job")}` : "");
    const { waiting } = this.#order;
    setText(byId("held"), waiting > 0 ? `${count(waiting, "new job")} below when you look away` : "");
    within(document, ".everything").hidden = shown === 0;
    setText(byId("select-all-text"), filtered ? `Select all ${count(shown, "match", "matches")}` : "Select all");
  }

  #showSelection() {
    const { size } = this.selection;
    const all = this.#all;
    all.checked = size > 0 && this.#matching.every((job) => this.selection.has(job.run));
    all.indeterminate = size > 0 && !all.checked;
    byId("selected-bar").hidden = size === 0;
    setText(within(byId("selected-bar"), ".number"), size.toLocaleString("en"));
    setText(byId("kill-selected"), size === 1 ? "Kill it" : `Kill ${size.toLocaleString("en")}`);
  }
}
