/**
 * The rows of the lists, one class for each kind. A row is made once and shows one job after another.
 *
 *   row.show(job, look);
 *   row.tick(serverNow, still) // -> seconds until it will look different
 *
 * A row is found by `element.dataset.run`.
 */

import { clone, cutText, partsOf, setText, textOrHide, within } from "../browser/dom.js";
import { duration, ending, instant, isNumber, ran, resultText, starter, stopped, timeLeft, whatKillDoes, who } from "../models/format.js";
import { forecast, forecastText } from "../models/forecast.js";

/**
 * @import { AnyJob } from "../follow/state.js"
 *
 * @typedef {object} Look what a row shows besides its job
 * @property {string} link
 * @property {boolean} several whether jobs of several rooms are mixed
 * @property {boolean} [selected]
 * @property {string} [doing] what is under way, as a word for the button
 * @property {string} [error]
 *
 * @typedef {object} Row
 * @property {HTMLElement} element
 * @property {(job: AnyJob, look: Look) => void} show
 * @property {(serverNow: number, still: boolean) => number} tick
 */

/** Seconds left at which a bar changes its colour. */
const LAST_SECONDS = 10;
/** Places that a bar can have: more could not be told apart. */
const STEPS = 2000;

export class JobRow {
  element = clone("job-template");
  /** @type {AnyJob | null} */
  job = null;
  #parts = {
    ...partsOf(this.element, ["connid", "room-name", "by", "note", "error", "left", "total", "bar", "fill", "kill"]),
    ...partsOf(this.element, ["report", "meter", "done", "percent", "behind", "progress-note"]),
  };
  #check = within(this.element, "input", HTMLInputElement);
  #place = -1; // of the bar, from 0 to STEPS, once it has one

  /**
   * @param {AnyJob} job
   * @param {Look} look
   */
  show(job, look) {
    const other = this.job !== job;
    this.job = job;
    if (other) this.#showJob(job);
    this.#showLook(job, look);
  }

  /**
   * @param {number} serverNow
   * @param {boolean} still whether the reader wants no motion
   */
  tick(serverNow, still) {
    if (this.job?.state !== "running") return Infinity;
    const { time, deadline } = this.job;
    const left = deadline - serverNow;
    const changed = setText(this.#parts.left, timeLeft(left));
    if (changed) this.element.classList.toggle("last-seconds", left <= LAST_SECONDS);
    const place = Math.round(Math.min(1, Math.max(0, left / time)) * STEPS);
    if (place !== this.#place && (!still || changed)) {
      this.#place = place;
      this.#parts.fill.style.transform = `translateX(${(place / STEPS - 1) * 100}%)`;
    }
    if (left <= 0) return Infinity;
    const untilText = left % 1 || 1;
    return still ? untilText : Math.min(untilText, time / STEPS);
  }

  /** @param {AnyJob} job */
  #showJob(job) {
    const { connid, by, note, left, total, bar, kill } = this.#parts;
    const ended = job.state !== "running";
    this.element.dataset.run = job.run;
    this.element.dataset.connid = job.connid;
    this.element.classList.toggle("gone", ended);
    this.element.classList.remove("last-seconds");
    cutText(connid, job.connid);
    setText(by, who(starter(job)));
    cutText(note, job.note ?? "");
    bar.hidden = ended;
    kill.hidden = ended;
    this.#check.disabled = ended;
    this.#check.setAttribute("aria-label", `Select ${job.connid}`);
    kill.setAttribute("aria-label", `Kill ${job.connid}`);
    kill.title = whatKillDoes(job);
    kill.dataset.stoppable = job.stoppable ?? "";
    if (ended) this.#showEnd(job);
    else setText(total, `of ${duration(job.time)}`);
    if (!ended && left.dataset.tone) delete left.dataset.tone;
    this.#place = -1;
    this.#showReport(job);
  }

  /** @param {AnyJob} job */
  #showEnd(job) {
    const { label, by, tone } = ending(job);
    const { left, total } = this.#parts;
    setText(left, label);
    left.dataset.tone = tone;
    cutText(total, by);
  }

  /**
   * @param {AnyJob} job
   * @param {Look} look
   */
  #showLook(job, { selected = false, doing, error, several, link }) {
    const { "room-name": room, error: place, kill, connid } = this.#parts;
    this.element.setAttribute("aria-selected", String(selected));
    this.#check.checked = selected;
    textOrHide(room, several ? job.room : "");
    cutText(place, error ?? "");
    // Not `disabled`: that would throw the focus away.
    kill.setAttribute("aria-disabled", String(Boolean(doing)));
    setText(kill, doing ?? "Kill");
    if (connid.getAttribute("href") !== link) connid.setAttribute("href", link);
  }

  /** @param {AnyJob} job */
  #showReport(job) {
    const { report: whole, meter, done, percent, behind, "progress-note": note } = this.#parts;
    const report = job.progress;
    whole.hidden = !report;
    if (!report) return;
    const share = isNumber(report.done) ? Math.round(Math.min(1, Math.max(0, report.done)) * 100) : null;
    meter.hidden = share === null;
    if (share !== null) {
      meter.setAttribute("aria-valuenow", String(share));
      done.style.transform = `translateX(${share - 100}%)`;
    }
    setText(percent, share === null ? "" : `${share}%`);
    behind.hidden = !forecast(job)?.late;
    behind.title = forecastText(job);
    cutText(note, report.note ?? "");
  }
}

export class PastRow {
  element = clone("past-template");
  /** @type {AnyJob | null} */
  job = null;
  #parts = partsOf(this.element, ["connid", "room-name", "by", "note", "label", "killer", "stop", "reason", "ran"]);
  #time = within(this.element, "time", HTMLTimeElement);

  /**
   * @param {AnyJob} job
   * @param {Look} look
   */
  show(job, { several, link }) {
    const { connid, "room-name": room, by, note, label, killer, stop, reason, ran: lasted } = this.#parts;
    connid.setAttribute("href", link);
    textOrHide(room, several ? job.room : "");
    if (this.job === job) return;
    this.job = job;
    const end = ending(job);
    this.element.dataset.run = job.run;
    this.element.dataset.connid = job.connid;
    this.element.dataset.tone = end.tone;
    cutText(connid, job.connid);
    setText(by, who(starter(job)));
    cutText(note, job.note ?? "");
    setText(label, end.label + (job.late ? ", late" : ""));
    cutText(killer, end.by);
    setText(stop, stopped(job));
    cutText(reason, job.reason ?? resultText(job.result));
    showInstant(this.#time, job.ended_at);
    setText(lasted, isNumber(job.started_at) ? `ran ${ran(job)}` : "");
  }

  tick() {
    return Infinity;
  }
}

/**
 * Show an instant; nothing where it is not known.
 *
 * @param {HTMLTimeElement} element
 * @param {number} [at]
 */
export function showInstant(element, at = NaN) {
  setText(element, instant(at));
  if (isNumber(at)) element.dateTime = new Date(at * 1000).toISOString();
}
