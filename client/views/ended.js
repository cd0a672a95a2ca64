/**
 * Ended jobs: all of them in a view of their own, and the last ones beside the board.
 *
 *   const ended = new Ended({ command, changed, open });
 *   ended.draw(states, { view, several, filtered, known, shown });   // shown: the view is open
 */

import { PointerHold } from "../browser/pointer-hold.js";
import { byId, clone, cutText, make, onPlainClick, opensRow, partsOf, runAt, setText, textOrHide, within } from "../browser/dom.js";
import { linkOf } from "../models/address.js";
import { merge, Past } from "../models/past.js";
import { byEnd, matcher } from "../models/query.js";
import { PastRow, showInstant } from "./rows.js";
import { VirtualRows } from "./virtual.js";
import { count, ending, resultText, stopped } from "../models/format.js";

const PAGE = 200;
const LAST = 12;

/**
 * @import { EndedJob, RoomState } from "../follow/state.js"
 * @import { View } from "../models/address.js"
 *
 * @typedef {object} Actions
 * @property {import("../follow/connection.js").Command} command
 * @property {() => void} changed
 * @property {(job: EndedJob) => void} open
 *
 * @typedef {object} Look how the jobs are shown
 * @property {View} view
 * @property {boolean} several whether jobs of several rooms are mixed
 * @property {boolean} filtered
 * @property {boolean} known whether an empty list means that nothing has ended
 */

export class Ended {
  #actions;
  #rows;
  /** @type {Map<string, Past>} */
  #pasts = new Map(); // by room
  /** @type {Map<string, { element: HTMLElement, job: EndedJob, drawn: boolean }>} */
  #recent = new Map(); // by run
  /** @type {EndedJob[]} */
  #jobs = []; // as they are shown
  #query = "";
  #hold;
  #asking = false;
  /** @type {string | null} */
  #epoch = null;

  /** @param {Actions} actions */
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

  /**
   * @param {RoomState[]} states
   * @param {Look & { shown: boolean }} look `shown` is whether the view is open
   */
  draw(states, { view, several, filtered, known, shown }) {
    this.#drawRecent(states, several, known);
    if (shown) this.#drawAll(states, { view, several, filtered, known });
  }

  /** Hold nothing that was shown or read. */
  forget() {
    this.#pasts.clear();
    this.#jobs = [];
  }

  /**
   * @param {RoomState[]} states
   * @param {Look} look
   */
  #drawAll(states, { view, several, filtered, known }) {
    this.#forgetOldLog(states);
    const rooms = states.map((state) => ({ past: this.#pastOf(state.room), ended: state.ended() }));
    const { jobs, more } = merge(rooms);
    const wanted = jobs.filter(matcher(view));
    const query = [view.search, view.by, view.state, view.rooms, view.only].join("\n");
    const held = this.#hold.active && query === this.#query && this.#jobs.length > 0;
    this.#query = query;
    if (!held) this.#jobs = wanted;
    this.#rows.draw(this.#jobs, (job) => ({ several, link: linkOf(job) }));
    this.#showNone(wanted.length === 0 && known, filtered);
    const found = `${wanted.length.toLocaleString("en")} of ${count(jobs.length, "ended job")}`;
    const loaded = more ? " that are loaded" : "";
    setText(byId("ended-found"), known ? (filtered ? found : count(jobs.length, "ended job")) + loaded : "");
    byId("older").hidden = !more || !known;
    if (known && rooms.some(({ past }) => !past.asked)) this.#askAll();
  }

  /**
   * @param {boolean} none
   * @param {boolean} filtered
   */
  #showNone(none, filtered) {
    const place = byId("history-none");
    place.hidden = !none;
    within(place, "button").hidden = !filtered;
    const all = "Jobs that were killed or have finished are listed here.";
    setText(within(place, ".text"), filtered ? "No loaded job matches." : all);
  }

  async #askAll() {
    if (this.#asking) return;
    this.#asking = true;
    setText(byId("older"), "Loading");
    try {
      const pasts = [...this.#pasts].filter(([, past]) => past.more);
      await Promise.all(pasts.map(([room, past]) => this.#ask(room, past)));
      setText(byId("older-error"), "");
    } catch (/** @type {any} */ error) {
      setText(byId("older-error"), error.message);
      for (const past of this.#pasts.values()) past.asked = true;
    } finally {
      this.#asking = false;
      setText(byId("older"), "Show older");
      this.#actions.changed();
    }
  }

  /**
   * @param {string} room
   * @param {Past} past
   */
  async #ask(room, past) {
    const before = past.before === null ? {} : { before: past.before };
    past.take(await this.#actions.command("history", { room, limit: PAGE, ...before }));
  }

  /** @param {string} room */
  #pastOf(room) {
    const past = this.#pasts.get(room) ?? new Past();
    this.#pasts.set(room, past);
    return past;
  }

  /**
   * Another epoch is another log: what was read of the old one is not in it.
   *
   * @param {RoomState[]} states
   */
  #forgetOldLog(states) {
    const epoch = states.find((state) => state.known)?.epoch ?? null;
    const open = new Set(states.map(({ room }) => room));
    if (epoch !== this.#epoch && this.#epoch !== null) this.#pasts.clear();
    this.#epoch = epoch;
    for (const room of this.#pasts.keys()) if (!open.has(room)) this.#pasts.delete(room);
  }

  /** @param {MouseEvent} click */
  #clicked(click) {
    const run = runAt(click.target);
    const job = this.#jobs.find((other) => other.run === run);
    if (!job || !opensRow(click)) return;
    click.preventDefault();
    this.#actions.open(job);
  }

  /**
   * @param {RoomState[]} states
   * @param {boolean} several
   * @param {boolean} known
   */
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
      if (shown.element === place) place = shown.element.nextElementSibling;
      else list.insertBefore(shown.element, place);
      if (shown.drawn && shown.job === job) continue;
      shown.job = job;
      shown.drawn = true;
      showRecent(shown.element, job, several);
    }
    list.hidden = jobs.length === 0;
    byId("ended-empty").hidden = jobs.length > 0 || !known;
    byId("all-ended").hidden = jobs.length === 0;
  }

  /** @param {EndedJob} job */
  #recentOf(job) {
    const known = this.#recent.get(job.run);
    if (known) return known;
    const shown = { element: clone("ended-template"), job, drawn: false };
    onPlainClick(within(shown.element, "a"), () => this.#actions.open(shown.job));
    this.#recent.set(job.run, shown);
    return shown;
  }
}

/**
 * @param {HTMLElement} element
 * @param {EndedJob} job
 * @param {boolean} several
 */
function showRecent(element, job, several) {
  const { connid, label, by, stop, reason } = partsOf(element, ["connid", "label", "by", "stop", "reason"]);
  const end = ending(job);
  element.dataset.ended = job.run;
  element.dataset.connid = job.connid;
  element.dataset.tone = end.tone;
  cutText(connid, job.connid);
  connid.setAttribute("href", linkOf(job));
  showInstant(within(element, "time", HTMLTimeElement), job.ended_at);
  setText(label, end.label);
  setText(by, [end.by, several ? `in ${job.room}` : ""].filter(Boolean).join(" "));
  setText(stop, stopped(job));
  textOrHide(reason, job.reason ?? resultText(job.result));
}

/**
 * One line about an ended job, for a list of earlier runs.
 *
 * @param {EndedJob} job
 * @param {(job: EndedJob) => void} open
 */
export function earlierLine(job, open) {
  const item = make("li");
  item.dataset.tone = ending(job).tone;
  const anchor = make("a", ending(job).label, { className: "label" });
  anchor.setAttribute("href", linkOf(job));
  onPlainClick(anchor, () => open(job));
  const when = make("time");
  showInstant(when, job.ended_at);
  item.append(anchor, " ", when, " ", make("span", ending(job).facts.join(" · "), { className: "quiet" }));
  return item;
}
