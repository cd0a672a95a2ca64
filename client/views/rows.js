/**
 * The rows of the lists, one class for each kind. A row is made once and shows one job after another.
 *
 *   row.show(job, look);       // look: { selected, doing, error, several, operator }
 *   row.tick(serverNow, still) // -> seconds until it will look different
 *
 * A row is found by `element.dataset.run`. `several` says that jobs of several rooms are mixed;
 * `doing` is what is under way, as a word for the button.
 */

import { clone, cutText, partsOf, setText, textOrHide } from "../browser/dom.js";
import { duration, ending, instant, resultText, stopped, timeLeft, who } from "../models/format.js";

/** Seconds left at which a bar changes its colour. */
const LAST_SECONDS = 10;
/** Places that a bar can have: more could not be told apart. */
const STEPS = 2000;

export class JobRow {
  #parts;
  #place = null; // of the bar, from 0 to STEPS

  constructor() {
    this.element = clone("job-template");
    this.job = null;
    this.#parts = partsOf(this.element, [
      ...["connid", "room-name", "by", "note", "error", "left", "total", "bar", "fill", "kill"],
      ...["report", "meter", "done", "percent", "progress-note"],
    ]);
    this.#parts.check = this.element.querySelector("input");
  }

  show(job, look) {
    const other = this.job !== job;
    this.job = job;
    if (other) this.#showJob(job);
    this.#showLook(job, look);
  }

  tick(serverNow, still) {
    if (this.job.state !== "running") return Infinity;
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

  #showJob(job) {
    const { connid, by, note, left, total, bar, kill, check } = this.#parts;
    const ended = job.state !== "running";
    this.element.dataset.run = job.run;
    this.element.dataset.connid = job.connid;
    this.element.classList.toggle("gone", ended);
    this.element.classList.remove("last-seconds");
    cutText(connid, job.connid);
    setText(by, who(job.started_by ?? job.by));
    cutText(note, job.note ?? "");
    bar.hidden = ended;
    kill.hidden = ended;
    check.disabled = ended;
    check.setAttribute("aria-label", `Select ${job.connid}`);
    kill.setAttribute("aria-label", `Kill ${job.connid}`);
    if (ended) this.#showEnd(job);
    else setText(total, `of ${duration(job.time)}`);
    if (!ended && left.dataset.tone) delete left.dataset.tone;
    this.#place = null;
    this.#showReport(job.progress);
  }

  #showEnd(job) {
    const { label, by, tone } = ending(job);
    const { left, total } = this.#parts;
    setText(left, label);
    left.dataset.tone = tone;
    cutText(total, by);
  }

  #showLook(job, { selected, doing, error, several, link }) {
    const { "room-name": room, error: place, kill, check, connid } = this.#parts;
    this.element.setAttribute("aria-selected", String(selected));
    check.checked = selected;
    textOrHide(room, several ? job.room : "");
    cutText(place, error ?? "");
    // Not `disabled`: that would throw the focus away.
    kill.setAttribute("aria-disabled", String(Boolean(doing)));
    setText(kill, doing ?? "Kill");
    if (connid.getAttribute("href") !== link) connid.setAttribute("href", link);
  }

  #showReport(report) {
    const { report: whole, meter, done, percent, "progress-note": note } = this.#parts;
    whole.hidden = !report;
    if (!report) return;
    const measured = Number.isFinite(report.done);
    const share = Math.round(Math.min(1, Math.max(0, report.done)) * 100);
    meter.hidden = !measured;
    if (measured) {
      meter.setAttribute("aria-valuenow", String(share));
      done.style.transform = `translateX(${share - 100}%)`;
    }
    setText(percent, measured ? `${share}%` : "");
    cutText(note, report.note ?? "");
  }
}

export class PastRow {
  #parts;

  constructor() {
    this.element = clone("past-template");
    this.job = null;
    this.#parts = partsOf(this.element, [
      ...["connid", "room-name", "by", "note", "label", "killer", "stop", "reason", "ran"],
    ]);
    this.#parts.time = this.element.querySelector("time");
  }

  show(job, { several, link }) {
    const { connid, "room-name": room, by, note, label, killer, stop, reason, ran, time } = this.#parts;
    connid.setAttribute("href", link);
    textOrHide(room, several ? job.room : "");
    if (this.job === job) return;
    this.job = job;
    const end = ending(job);
    this.element.dataset.run = job.run;
    this.element.dataset.connid = job.connid;
    this.element.dataset.tone = end.tone;
    cutText(connid, job.connid);
    setText(by, who(job.started_by ?? job.by));
    cutText(note, job.note ?? "");
    setText(label, end.label + (job.late ? ", late" : ""));
    cutText(killer, end.by);
    setText(stop, stopped(job));
    cutText(reason, job.reason ?? resultText(job.result));
    showInstant(time, job.ended_at);
    setText(ran, Number.isFinite(job.started_at) ? `ran ${duration(job.ended_at - job.started_at)}` : "");
  }

  tick() {
    return Infinity;
  }
}

/** Show an instant in a `time` element. */
export function showInstant(element, at) {
  setText(element, instant(at));
  if (Number.isFinite(at)) element.dateTime = new Date(at * 1000).toISOString();
}
