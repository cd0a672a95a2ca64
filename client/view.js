/**
 * What the reader sees and touches; the only module that knows the DOM.
 *
 *   const view = new View(document, { start, kill, rename, authorize });
 *   view.draw(state);        // after events: lists, presence, title
 *   view.tick(serverNow);    // at each frame: time left and bars
 *   view.showConnection({ state: "live", text: "Live" });
 *
 * `start(fields)` and `kill(job)` return promises that reject with a CommandError; `rename(name)` and
 * `authorize(token)` return nothing. Everything that comes from users goes in as text. Rows are kept
 * by run and changed in place: a row never moves, so a click meets what it aimed at and the focus
 * stays.
 */

import { duration, ending, instant, resultText, timeLeft, typedTime, watchers, who } from "./words.js";

/** Seconds left at which a bar changes its colour. */
const LAST_SECONDS = 10;

export class View {
  #document;
  #byId;
  #running;
  #ended;
  #stillBars;

  constructor(document, actions) {
    this.#document = document;
    this.#byId = (id) => document.getElementById(id);
    this.#running = new Rows(
      this.#byId("running"),
      () => new JobRow(clone(this.#byId("job-template")), (row) => this.#kill(row, actions.kill)),
      this.#byId("running-title"),
    );
    this.#ended = new Rows(
      this.#byId("ended"),
      () => new EndedRow(clone(this.#byId("ended-template"))),
      this.#byId("ended-title"),
    );
    this.#stillBars = document.defaultView.matchMedia("(prefers-reduced-motion: reduce)");
    this.#listenToStart(actions.start);
    this.#byId("name").addEventListener("change", ({ target }) => actions.rename(target.value.trim()));
    this.#byId("token").addEventListener("submit", (submit) => {
      submit.preventDefault();
      actions.authorize(submit.target.elements.token.value);
    });
  }

  showRoom(room, name) {
    this.#byId("room").textContent = room;
    this.#byId("name").value = name;
  }

  showConnection({ state, text }) {
    const connection = this.#byId("connection");
    setText(connection, text);
    connection.dataset.state = state;
    this.#document.body.dataset.state = state;
    if (state === "live") this.#forgetOldErrors();
  }

  /** Say something above the lists, or nothing; with `askToken` there is a field for one. */
  showNotice(text, { askToken = false } = {}) {
    const notice = this.#byId("notice").querySelector(".text");
    setText(notice, text);
    notice.hidden = text === "";
    this.#byId("token").hidden = !askToken;
  }

  draw(state) {
    const running = state.running();
    const ended = state.ended();
    this.#running.draw(running);
    this.#ended.draw(ended);
    this.#byId("running-waiting").hidden = state.known;
    this.#byId("running-empty").hidden = !state.known || running.length > 0;
    this.#byId("ended-empty").hidden = ended.length > 0;
    setText(this.#byId("running-number"), state.known ? String(running.length) : "");
    this.#showWatching(state.presence);
    this.#document.title = `${running.length ? `(${running.length}) ` : ""}Hourglass · ${state.room}`;
  }

  tick(serverNow) {
    for (const row of this.#running.rows()) row.tick(serverNow, this.#stillBars.matches);
  }

  /** What could not be sent while there was no connection is no error any more. */
  #forgetOldErrors() {
    showFieldError(this.#byId("start"), "form", "");
    for (const row of this.#running.rows()) row.showError("");
  }

  #showWatching(presence) {
    const { count, names } = watchers(presence);
    const watching = this.#byId("watching");
    setText(watching.querySelector(".count"), count);
    setText(watching.querySelector(".names"), names);
    watching.title = names;
  }

  #listenToStart(start) {
    const form = this.#byId("start");
    const { time } = form.elements;
    const showHint = () => setText(this.#byId("time-hint"), typedTime(time.value));
    let busy = false;
    form.addEventListener("input", ({ target }) => {
      showFieldError(form, target.name, "");
      showFieldError(form, "form", "");
      showHint();
    });
    form.addEventListener("submit", async (submit) => {
      submit.preventDefault();
      if (busy) return;
      busy = true;
      await this.#start(form, start);
      busy = false;
      showHint();
    });
    showHint();
  }

  async #start(form, start) {
    const { connid, time, note } = form.elements;
    for (const field of ["connid", "time", "note", "form"]) showFieldError(form, field, "");
    try {
      await start({ connid: connid.value, time: time.value, note: note.value });
      this.#say(`Started ${connid.value}.`);
      connid.value = "";
      note.value = "";
      connid.focus();
    } catch (error) {
      showFieldError(form, fieldOf(error), error.message)?.focus();
    }
  }

  async #kill(row, kill) {
    row.showKilling(true);
    row.showError("");
    try {
      await kill(row.job);
      this.#say(`Killed ${row.job.connid}.`);
    } catch (error) {
      row.showError(error.message);
    } finally {
      row.showKilling(false);
    }
  }

  /** Tell those who cannot see the list change. */
  #say(text) {
    setText(this.#byId("said"), text);
  }
}

/** A list whose rows are kept by run: new ones come in, gone ones go, none moves. */
class Rows {
  #list;
  #create;
  #heading;
  #byRun = new Map();

  constructor(list, create, heading) {
    this.#list = list;
    this.#create = create;
    this.#heading = heading;
  }

  rows() {
    return this.#byRun.values();
  }

  draw(jobs) {
    const focusPlace = this.#removeGone(new Set(jobs.map((job) => job.run)));
    let place = this.#list.firstElementChild;
    for (const job of jobs) {
      const row = this.#rowOf(job);
      if (row.element === place) place = place.nextElementSibling;
      else this.#list.insertBefore(row.element, place);
      if (row.job !== job) row.show(job);
    }
    this.#list.hidden = jobs.length === 0;
    if (focusPlace !== null) this.#focusNear(focusPlace);
  }

  #rowOf(job) {
    const known = this.#byRun.get(job.run);
    if (known) return known;
    const row = this.#create();
    this.#byRun.set(job.run, row);
    return row;
  }

  /** Remove the rows that are not wanted; return the place of the one that held the focus, or null. */
  #removeGone(wanted) {
    let focusPlace = null;
    for (const [run, row] of this.#byRun) {
      if (wanted.has(run)) continue;
      if (row.element.contains(row.element.ownerDocument.activeElement)) {
        focusPlace = [...this.#list.children].indexOf(row.element);
      }
      row.element.remove();
      this.#byRun.delete(run);
    }
    return focusPlace;
  }

  /** Go on near a removed row: on a row and not on its button, or a second Enter would kill it too. */
  #focusNear(place) {
    const next = this.#list.children[place] ?? this.#list.lastElementChild ?? this.#heading;
    next.focus({ preventScroll: true });
  }
}

class JobRow {
  #parts;
  #shownScale = null;

  constructor(element, kill) {
    this.element = element;
    this.job = null;
    this.#parts = partsOf(element, [
      ...["connid", "by", "note", "left", "total", "kill", "fill"],
      ...["progress", "meter", "done", "percent", "progress-note", "error"],
    ]);
    this.#parts.kill.addEventListener("click", () => {
      if (this.#parts.kill.getAttribute("aria-disabled") !== "true") kill(this);
    });
  }

  show(job) {
    this.job = job;
    const { connid, by, note, total, kill } = this.#parts;
    this.element.dataset.run = job.run;
    this.element.dataset.connid = job.connid;
    setText(connid, job.connid);
    setText(by, who(job.by));
    setText(note, job.note ?? "");
    // What is cut off for want of room can still be read.
    connid.title = job.connid;
    note.title = job.note ?? "";
    setText(total, `of ${duration(job.time)}`);
    kill.setAttribute("aria-label", `Kill ${job.connid}`);
    this.#showProgress(job.progress);
  }

  tick(serverNow, stillBars) {
    const left = this.job.deadline - serverNow;
    const changed = setText(this.#parts.left, timeLeft(left));
    if (changed) this.element.classList.toggle("last-seconds", left <= LAST_SECONDS);
    // A step too small to be seen is not worth a style change at each frame of each row.
    const scale = Math.min(1, Math.max(0, left / this.job.time)).toFixed(4);
    if (scale === this.#shownScale || (stillBars && !changed)) return;
    this.#shownScale = scale;
    this.#parts.fill.style.transform = `translateX(${(scale - 1) * 100}%)`;
  }

  showKilling(killing) {
    const { kill } = this.#parts;
    // Not `disabled`: that would throw the focus away.
    kill.setAttribute("aria-disabled", String(killing));
    setText(kill, killing ? "Killing" : "Kill");
  }

  showError(text) {
    setText(this.#parts.error, text);
  }

  #showProgress(report) {
    const { progress, meter, done, percent } = this.#parts;
    progress.hidden = !report;
    if (!report) return;
    const measured = Number.isFinite(report.done);
    const share = Math.round(Math.min(1, Math.max(0, report.done)) * 100);
    meter.hidden = !measured;
    if (measured) {
      meter.setAttribute("aria-valuenow", String(share));
      done.style.transform = `translateX(${share - 100}%)`;
    }
    setText(percent, measured ? `${share}%` : "");
    setText(this.#parts["progress-note"], report.note ?? "");
  }
}

class EndedRow {
  #parts;

  constructor(element) {
    this.element = element;
    this.job = null;
    const names = ["connid", "when", "label", "by", "reason", "result", "facts"];
    this.#parts = partsOf(element, names);
  }

  show(job) {
    this.job = job;
    const { connid, when, label, by, reason, result, facts } = this.#parts;
    const end = ending(job);
    this.element.dataset.ended = job.run;
    this.element.dataset.connid = job.connid;
    this.element.dataset.tone = end.tone;
    setText(connid, job.connid);
    connid.title = job.connid;
    setText(when, instant(job.ended_at));
    if (Number.isFinite(job.ended_at)) when.dateTime = new Date(job.ended_at * 1000).toISOString();
    setText(label, end.label);
    setText(by, end.by);
    showOrHide(reason, job.reason ?? "");
    reason.title = job.reason ?? "";
    showOrHide(result, resultText(job.result));
    setText(facts, end.facts.join(" · "));
  }
}

/** Set an element's text where it differs; return whether it did. */
function setText(element, text) {
  if (element.textContent === text) return false;
  element.textContent = text;
  return true;
}

function showOrHide(element, text) {
  setText(element, text);
  element.hidden = text === "";
}

const clone = (template) => template.content.firstElementChild.cloneNode(true);

function partsOf(element, classNames) {
  return Object.fromEntries(classNames.map((name) => [name, element.querySelector(`.${name}`)]));
}

/** The field of the start form that an error belongs to; "form" where it is none of them. */
function fieldOf({ code, field }) {
  if (code === "conflict") return "connid";
  return ["connid", "time", "note"].includes(field) ? field : "form";
}

/** Show or clear an error at its field, and return the field's input where it has one. */
function showFieldError(form, field, text) {
  const place = form.querySelector(`[data-error-for="${field}"]`);
  if (place) setText(place, text);
  const input = form.querySelector(`[name="${field}"]`);
  if (text) input?.setAttribute("aria-invalid", "true");
  else input?.removeAttribute("aria-invalid");
  return input;
}
