/**
 * The tabs of the views, and what the lists are searched, filtered and sorted by.
 *
 *   const toolbar = new Toolbar(change);      // change({ search: "back" }) and so on
 *   toolbar.show(view);                       // set the fields to what the address says
 *   toolbar.offer(jobs, view);                // whose jobs there are
 */

import { byId, make, setText, within } from "../browser/dom.js";
import { starter } from "../models/format.js";
import { STATES } from "../models/query.js";

/** @type {Field[]} */
const FIELDS = ["search", "by", "state", "sort", "span"];
/** @type {View["view"][]} */
const VIEWS = ["running", "ended", "timeline"];
const MOST_PEOPLE = 200;
/** @type {Record<string, string>} */
const STATE_NAMES = {
  behind: "Will not make it",
  reporting: "With a report",
  silent: "Without a report",
  leased: "With a lease",
  killed: "Killed",
  stopped: "Work has stopped",
  elapsed: "Time ran out",
  done: "Done",
  failed: "Failed",
  lost: "Lost",
  late: "Recorded late",
};

/**
 * @import { AnyJob } from "../follow/state.js"
 * @import { View } from "../models/address.js"
 *
 * @typedef {"search" | "by" | "state" | "sort" | "span"} Field
 */

export class Toolbar {
  #tabs = VIEWS.map((view) => ({ view, button: byId(`tab-${view}`), panel: byId(`view-${view}`) }));
  #by = byId("by", HTMLSelectElement);
  #state = byId("state", HTMLSelectElement);
  #search = byId("search", HTMLInputElement);
  #statesOf = ""; // the view whose states are offered
  #people = ""; // that are offered, as JSON

  /** @param {(part: Partial<View>) => void} change */
  constructor(change) {
    for (const field of FIELDS) {
      byId(field).addEventListener("input", () => change({ [field]: fieldOf(field).value }));
    }
    for (const [index, { view, button }] of this.#tabs.entries()) {
      button.addEventListener("click", () => change({ view, state: "" }));
      button.addEventListener("keydown", (press) => this.#walk(press, index));
    }
    for (const button of document.querySelectorAll(".clear-filter")) {
      button.addEventListener("click", () => {
        change({ search: "", by: "", state: "" });
        this.#search.focus();
      });
    }
    this.#search.addEventListener("keydown", (press) => {
      if (press.key !== "Escape" || this.#search.value === "") return;
      press.preventDefault();
      press.stopPropagation();
      change({ search: "" });
    });
  }

  /** @param {View} view */
  show(view) {
    this.#offerStates(view);
    if (view.by) this.#addPerson(view.by);
    for (const field of FIELDS) if (fieldOf(field).value !== view[field]) fieldOf(field).value = view[field];
    for (const tab of this.#tabs) {
      const chosen = tab.view === view.view;
      tab.button.setAttribute("aria-selected", String(chosen));
      tab.button.tabIndex = chosen ? 0 : -1;
      tab.panel.hidden = !chosen;
    }
    document.body.dataset.view = view.view;
  }

  /** @param {string} text how many jobs are running; "" where that is not known */
  showNumber(text) {
    setText(within(byId("tab-running"), ".number"), text);
  }

  /**
   * Offer the people who have started something; the list is left alone while it is in use.
   *
   * @param {AnyJob[]} jobs
   * @param {View} view
   */
  offer(jobs, view) {
    if (document.activeElement === this.#by) return;
    const people = [...new Set(jobs.map(starter))].filter(Boolean).sort().slice(0, MOST_PEOPLE);
    if (view.by && !people.includes(view.by)) people.push(view.by);
    const key = JSON.stringify(people);
    if (key === this.#people) return;
    this.#people = key;
    this.#by.replaceChildren(option("", "Anyone"), ...people.map((name) => option(name, name)));
    this.#by.value = view.by;
  }

  /** @param {View} view */
  #offerStates({ view, state }) {
    if (this.#statesOf === view) return;
    this.#statesOf = view;
    const all = view === "timeline" ? [...STATES.running, ...STATES.ended] : STATES[view];
    this.#state.replaceChildren(option("", "Any state"), ...all.map((name) => option(name, STATE_NAMES[name])));
    this.#state.value = all.includes(state) ? state : "";
  }

  /** @param {string} name */
  #addPerson(name) {
    const known = [...this.#by.options].some(({ value }) => value === name);
    if (!known) this.#by.append(option(name, name));
  }

  /**
   * @param {KeyboardEvent} press
   * @param {number} index of the tab that has the focus
   */
  #walk(press, index) {
    const step = press.key === "ArrowRight" ? 1 : press.key === "ArrowLeft" ? -1 : 0;
    if (step === 0) return;
    press.preventDefault();
    press.stopPropagation();
    const { button } = this.#tabs[(index + step + this.#tabs.length) % this.#tabs.length];
    button.focus();
    button.click();
  }
}

/**
 * @param {Field} field
 * @returns {{ value: string }}
 */
const fieldOf = (field) => (field === "search" ? byId(field, HTMLInputElement) : byId(field, HTMLSelectElement));

/**
 * @param {string} value
 * @param {string} text
 */
const option = (value, text) => make("option", text, { value });
