/**
 * Ended jobs: all of them in a view of their own, and the last ones beside the board.
 *
 *   const ended = new Ended({ command, changed, open, linkOf });
 *   ended.draw(states, { view, several, filtered, known, shown });   // shown: the view is open
 */

import { PointerHold } from "../browser/pointer-hold.js";
import { byId, clone, cutText, make, onPlainClick, partsOf, setText, textOrHide } from "../browser/dom.js";
import { merge, Past } from "../models/past.js";
import { byEnd, matcher } from "../models/query.js";
import { PastRow, showInstant } from "./rows.js";
import { VirtualRows } from "./virtual.js";
import { count, ending, resultText, stopped } from "../models/format.js";

const PAGE = 200;
const LAST = 12;

export class Ended {
  #actions;
  #rows;
  #pasts = new Map(); // room -> Past
  #recent = new Map(); // run -> its element
  #jobs = []; // as they are shown
  #query = "";
  #hold;
  #asking = false;
  #epoch = null;

  constructor(actions) {
    this.#actions = actions;
    this.#rows = new VirtualRows(byId("history"), () => new PastRow(), byId("tab-ended"));
    this.#hold = new PointerHold(byId("history"), actions.changed);
    byId("older").addEventListener("click", () => this.#askAll());
    byId("history").addEventListener("click", (click) => this.#clicked(click));
  }

  get rows() {
    return this.#rows;
  }

  draw(states, { view, several, filtered, known, shown }) {
    this.#drawRecent(states, several, known);
    if (shown) this.#drawAll(states, { view, several, filtered, known });
  }

  /** Hold nothing that was shown or read. */
  forget() {
    this.#pasts.clear();
    this.#jobs = [];
  }

  #drawAll(states, { view, several, filtered, known }) {
    this.#forgetOldLog(states);
    const rooms = states.map((state) => ({ past: this.#pastOf(state.room), ended: state.ended() }));
    const { jobs, more } = merge(rooms);
    const wanted = jobs.filter(matcher(view));
    const query = [view.search, view.by, view.state, view.rooms, view.only].join("\n");
    const held = this.#hold.active && query === this.#query && this.#jobs.length > 0;
    this.#query = query;
    if (!held) this.#jobs = wanted;
    this.#rows.draw(this.#jobs, (job) => ({ several, link: this.#actions.linkOf(job) }));
    byId("history-none").hidden = wanted.length > 0 || !known;
    setText(byId("history-none").querySelector(".text"), filtered ? "None of those that are loaded matches." : "Jobs that were killed or have finished are listed here.");
    byId("history-none").querySelector("button").hidden = !filtered;
    const found = `${wanted.length.toLocaleString("en")} of ${count(jobs.length, "ended job")}`;
    const loaded = more ? " that are loaded" : "";
    setText(byId("ended-found"), known ? (filtered ? found : count(jobs.length, "ended job")) + loaded : "");
    byId("older").hidden = !more || !known;
    if (known && rooms.some(({ past }) => !past.asked)) this.#askAll();
  }

  async #askAll() {
    if (this.#asking) return;
    this.#asking = true;
    setText(byId("older"), "Loading");
    try {
      const pasts = [...this.#pasts].filter(([, past]) => past.more);
      await Promise.all(pasts.map(([room, past]) => this.#ask(room, past)));
      setText(byId("older-error"), "");
    } catch (error) {
      setText(byId("older-error"), error.message);
      for (const past of this.#pasts.values()) past.asked = true;
    } finally {
      this.#asking = false;
      setText(byId("older"), "Show older");
      this.#actions.changed();
    }
  }

  async #ask(room, past) {
    const before = past.before === null ? {} : { before: past.before };
    past.take(await this.#actions.command("history", { room, limit: PAGE, ...before }));
  }

  #pastOf(room) {
    if (!this.#pasts.has(room)) this.#pasts.set(room, new Past());
    return this.#pasts.get(room);
  }

  /** Another epoch is another log: what was read of the old one is not in it. */
  #forgetOldLog(states) {
    const epoch = states.find((state) => state.known)?.epoch ?? null;
    const open = new Set(states.map(({ room }) => room));
    if (epoch !== this.#epoch && this.#epoch !== null) this.#pasts.clear();
    this.#epoch = epoch;
    for (const room of this.#pasts.keys()) if (!open.has(room)) this.#pasts.delete(room);
  }

  #clicked(click) {
    const run = click.target.closest("[data-run]")?.dataset.run;
    const job = this.#jobs.find((other) => other.run === run);
    if (!job || click.ctrlKey || click.metaKey || getSelection().toString() !== "") return;
    click.preventDefault();
    this.#actions.open(job);
  }

  #drawRecent(states, several, known) {
    const jobs = states.flatMap((state) => state.ended().slice(0, LAST)).sort(byEnd).slice(0, LAST);
    const wanted = new Set(jobs.map(({ run }) => run));
    for (const [run, { element }] of this.#recent) {
      if (wanted.has(run)) continue;
      element.remove();
      this.#recent.delete(run);
    }
    const list = byId("ended");
    let place = list.firstElementChild;
    for (const job of jobs) {
      const shown = this.#recentOf(job);
      if (shown.element === place) place = place.nextElementSibling;
      else list.insertBefore(shown.element, place);
      if (shown.job === job) continue;
      shown.job = job;
      showRecent(shown.element, job, several, this.#actions.linkOf(job));
    }
    list.hidden = jobs.length === 0;
    byId("ended-empty").hidden = jobs.length > 0 || !known;
    byId("all-ended").hidden = jobs.length === 0;
  }

  #recentOf(job) {
    let shown = this.#recent.get(job.run);
    if (!shown) {
      shown = { element: clone("ended-template"), job: null };
      onPlainClick(shown.element.querySelector("a"), () => this.#actions.open(shown.job));
      this.#recent.set(job.run, shown);
    }
    return shown;
  }
}

function showRecent(element, job, several, link) {
  const names = ["connid", "when", "label", "by", "stop", "reason"];
  const { connid, when, label, by, stop, reason } = partsOf(element, names);
  const end = ending(job);
  element.dataset.ended = job.run;
  element.dataset.connid = job.connid;
  element.dataset.tone = end.tone;
  cutText(connid, job.connid);
  connid.setAttribute("href", link);
  showInstant(when, job.ended_at);
  setText(label, end.label);
  setText(by, [end.by, several ? `in ${job.room}` : ""].filter(Boolean).join(" "));
  setText(stop, stopped(job));
  textOrHide(reason, job.reason ?? resultText(job.result));
}

/** One line about an ended job, for a list of earlier runs. */
export function earlierLine(job, link, open) {
  const item = make("li");
  item.dataset.tone = ending(job).tone;
  const anchor = make("a", ending(job).label, { className: "label" });
  anchor.setAttribute("href", link);
  onPlainClick(anchor, () => open(job));
  const when = make("time");
  showInstant(when, job.ended_at);
  item.append(anchor, " ", when, " ", make("span", ending(job).facts.join(" · "), { className: "quiet" }));
  return item;
}
