/**
 * The running jobs: a list that is live, and holds still while the reader points at a row.
 *
 *   const board = new Board({ changed, open, kill, linkOf, lookOf });
 *   board.draw(jobs, { view, find, several, total, known });
 *   board.tick(serverNow, still);
 *
 * `changed()` asks for another draw. `open(job)` and `kill(jobs)` are what the reader asked for;
 * `lookOf(job)` gives what is known besides the job: `{ doing, error }`.
 */

import { PointerHold } from "../browser/pointer-hold.js";
import { byId, isTyping, setText } from "../browser/dom.js";
import { Order } from "../models/order.js";
import { matcher, ORDERS } from "../models/query.js";
import { JobRow } from "./rows.js";
import { Selection } from "../models/selection.js";
import { announce } from "./toasts.js";
import { VirtualRows } from "./virtual.js";
import { count } from "../models/format.js";

export class Board {
  selection = new Selection();
  #actions;
  #order = new Order();
  #rows;
  #list = byId("running");
  #matching = []; // running jobs that match, in no order
  #query = "";
  #hold;

  constructor(actions) {
    this.#actions = actions;
    this.#rows = new VirtualRows(this.#list, () => new JobRow(), byId("tab-running"));
    this.#hold = new PointerHold(this.#list, actions.changed);
    this.#list.addEventListener("click", (click) => this.#clicked(click));
    byId("select-all").addEventListener("change", ({ target }) => this.selectAll(target.checked));
    byId("kill-selected").addEventListener("click", () => this.killSelected());
    byId("clear-selected").addEventListener("click", () => this.clearSelection());
  }

  get rows() {
    return this.#rows;
  }

  draw(jobs, { view, find, several, total, known, filtered }) {
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
      link: this.#actions.linkOf(job),
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

  #clicked(click) {
    const { target } = click;
    const job = this.#order.jobs.find(({ run }) => run === target.closest("[data-run]")?.dataset.run);
    if (!job) return;
    if (target.closest("input")) return this.toggle(job, click.shiftKey);
    if (target.closest(".select")) return undefined;
    if (target.closest(".kill")) {
      if (target.closest(".kill").getAttribute("aria-disabled") !== "true") this.#actions.kill([job]);
      return undefined;
    }
    if (click.ctrlKey || click.metaKey || getSelection().toString() !== "" || isTyping(target)) return undefined;
    click.preventDefault();
    return this.#actions.open(job);
  }

  #showAbove({ total, filtered, known }) {
    const shown = this.#matching.length;
    setText(byId("found"), filtered && known ? `${shown.toLocaleString("en")} of ${count(total, "job")}` : "");
    const { waiting } = this.#order;
    setText(byId("held"), waiting > 0 ? `${count(waiting, "new job")} below when you look away` : "");
    byId("select-all").parentElement.hidden = shown === 0;
    setText(byId("select-all-text"), filtered ? `Select all ${count(shown, "match", "matches")}` : "Select all");
  }

  #showSelection() {
    const { size } = this.selection;
    const all = byId("select-all");
    all.checked = size > 0 && this.#matching.every((job) => this.selection.has(job.run));
    all.indeterminate = size > 0 && !all.checked;
    byId("selected-bar").hidden = size === 0;
    setText(byId("selected-bar").querySelector(".number"), size.toLocaleString("en"));
    setText(byId("kill-selected"), size === 1 ? "Kill it" : `Kill ${size.toLocaleString("en")}`);
  }
}
