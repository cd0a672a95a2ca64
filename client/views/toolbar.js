/**
 * The tabs of the views, and what the lists are searched, filtered and sorted by.
 *
 *   const toolbar = new Toolbar(change);      // change({ search: "back" }) and so on
 *   toolbar.show(view);                       // set the fields to what the address says
 *   toolbar.offer(jobs, view);                // whose jobs there are
 */

import { byId, make, setText } from "../browser/dom.js";
import { starter, STATES } from "../models/query.js";

const FIELDS = ["search", "by", "state", "sort", "span"];
const MOST_PEOPLE = 200;
const STATE_NAMES = {
  reporting: "With a report",
  silent: "Without a report",
  leased: "With a lease",
  killed: "Killed",
  stopped: "Killed, work has stopped",
  elapsed: "Time ran out",
  done: "Done",
  failed: "Failed",
  lost: "Lost",
  late: "Recorded late",
};

export class Toolbar {
  #tabs = [...document.querySelectorAll("[role=tab]")];
  #offered = { view: null, people: "" };

  constructor(change) {
    for (const field of FIELDS) {
      byId(field).addEventListener("input", ({ target }) => change({ [field]: target.value }));
    }
    for (const tab of this.#tabs) {
      tab.addEventListener("click", () => change({ view: tab.dataset.view, state: "" }));
      tab.addEventListener("keydown", (press) => this.#walk(press, tab));
    }
    for (const button of document.querySelectorAll(".clear-filter")) {
      button.addEventListener("click", () => {
        change({ search: "", by: "", state: "" });
        byId("search").focus();
      });
    }
    byId("search").addEventListener("keydown", (press) => {
      if (press.key !== "Escape" || press.target.value === "") return;
      press.preventDefault();
      press.stopPropagation();
      change({ search: "" });
    });
  }

  show(view) {
    this.#offerStates(view);
    if (view.by) this.#addPerson(view.by);
    for (const field of FIELDS) if (byId(field).value !== view[field]) byId(field).value = view[field];
    for (const tab of this.#tabs) {
      const chosen = tab.dataset.view === view.view;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      byId(`view-${tab.dataset.view}`).hidden = !chosen;
    }
    document.body.dataset.view = view.view;
  }

  showNumber(text) {
    setText(byId("tab-running").querySelector(".number"), text);
  }

  /** Offer the people who have started something; the list is left alone while it is in use. */
  offer(jobs, view) {
    if (document.activeElement === byId("by")) return;
    const people = [...new Set(jobs.map(starter))].filter(Boolean).sort().slice(0, MOST_PEOPLE);
    if (view.by && !people.includes(view.by)) people.push(view.by);
    const key = JSON.stringify(people);
    if (key === this.#offered.people) return;
    this.#offered.people = key;
    byId("by").replaceChildren(option("", "Anyone"), ...people.map((name) => option(name, name)));
    byId("by").value = view.by;
  }

  #offerStates({ view, state }) {
    if (this.#offered.view === view) return;
    this.#offered.view = view;
    const all = view === "timeline" ? [...STATES.running, ...STATES.ended] : STATES[view];
    byId("state").replaceChildren(option("", "Any state"), ...all.map((name) => option(name, STATE_NAMES[name])));
    byId("state").value = all.includes(state) ? state : "";
  }

  #addPerson(name) {
    const known = [...byId("by").options].some(({ value }) => value === name);
    if (!known) byId("by").append(option(name, name));
  }

  #walk(press, tab) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[press.key];
    if (!step) return;
    press.preventDefault();
    press.stopPropagation();
    const next = this.#tabs[(this.#tabs.indexOf(tab) + step + this.#tabs.length) % this.#tabs.length];
    next.focus();
    next.click();
  }
}

const option = (value, text) => make("option", text, { value });
