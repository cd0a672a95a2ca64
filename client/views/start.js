/**
 * The form that starts a job: errors at the fields that they name, last values remembered.
 *
 *   const start = new Start({ command, open });
 *   start.showRooms(["main", "ops"], "main");
 *   start.fill(job);      // with the values of an earlier one
 *   start.focus();
 */

import { byId, make, setText, within } from "../browser/dom.js";
import { keep, recallJson } from "../browser/storage.js";
import { say } from "./toasts.js";
import { typedSeconds } from "../job/seconds.js";
import { instant, typedTime, who } from "../models/format.js";

const REMEMBERED = 20;

/**
 * @import { EndedJob, Job } from "../follow/state.js"
 * @import { CommandError } from "../follow/connection.js"
 *
 * @typedef {object} Actions
 * @property {import("../follow/connection.js").Command} command
 * @property {(job: Job | EndedJob) => void} open
 *
 * @typedef {{ connid: string, time: string, note: string }} Values
 */

export class Start {
  #form = byId("start");
  #panel = byId("start-panel", HTMLDetailsElement);
  #fields = {
    connid: byId("connid", HTMLInputElement),
    time: byId("time", HTMLInputElement),
    note: byId("note", HTMLInputElement),
    room: byId("room", HTMLSelectElement),
  };
  #actions;
  #busy = false;
  /** @type {Job | EndedJob | null} */
  #running = null; // the job that runs under the wanted name already

  /** @param {Actions} actions */
  constructor(actions) {
    this.#actions = actions;
    for (const [name, field] of Object.entries(this.#fields)) {
      field.addEventListener("input", () => this.#typed(name));
    }
    this.#form.addEventListener("submit", (submit) => {
      submit.preventDefault();
      this.#start({});
    });
    within(this.#form, ".watch-it").addEventListener("click", () => this.#running && actions.open(this.#running));
    within(this.#form, ".replace-it").addEventListener("click", () => this.#start({ if_running: "replace" }));
    const wide = matchMedia("(min-width: 68rem)");
    const fit = () => (this.#panel.open = wide.matches);
    wide.addEventListener("change", fit);
    fit();
    this.#showRemembered();
  }

  /**
   * Which rooms a job can be started in; there is only a choice where there are several.
   *
   * @param {string[]} rooms
   * @param {string} chosen
   */
  showRooms(rooms, chosen) {
    const select = this.#fields.room;
    const known = [...select.options].map(({ value }) => value);
    if (known.join() !== rooms.join()) {
      const before = select.value;
      select.replaceChildren(...rooms.map((room) => make("option", room, { value: room })));
      select.value = rooms.includes(before) ? before : chosen;
    }
    byId("start-room").hidden = rooms.length < 2;
  }

  /** @param {string} room */
  choose(room) {
    this.#fields.room.value = room;
  }

  /** @param {{ connid: string, time: number, note: string | null, room: string }} job */
  fill({ connid, time, note, room }) {
    const fields = this.#fields;
    fields.connid.value = connid;
    fields.time.value = String(time);
    fields.note.value = note ?? "";
    fields.room.value = room;
    this.#typed("connid");
    this.focus();
  }

  focus() {
    this.#panel.open = true;
    this.#panel.scrollIntoView({ block: "nearest" });
    this.#fields.connid.focus();
  }

  /** @param {{ if_running?: "replace" }} more */
  async #start(more) {
    if (this.#busy) return;
    const { connid, time, note, room } = this.#fields;
    for (const field of [...Object.keys(this.#fields), "form"]) this.#showError(field, "");
    const typed = { connid: connid.value, time: typedSeconds(time.value) ?? time.value, room: room.value };
    this.#setBusy(true);
    try {
      await this.#actions.command("request", { ...typed, ...(note.value && { note: note.value }), ...more });
      this.#remember({ connid: connid.value, time: time.value, note: note.value });
      say(`Started ${connid.value}.`);
      connid.value = "";
      note.value = "";
      connid.focus();
    } catch (/** @type {any} */ error) {
      this.#refused(error);
    } finally {
      this.#setBusy(false);
    }
  }

  /** @param {CommandError} error */
  #refused({ code, field, job, message }) {
    const conflict = code === "conflict" && job !== null;
    const place = conflict ? "connid" : field !== null && field in this.#fields ? field : "form";
    this.#showError(place, conflict ? conflictText(job) : message);
    this.#running = job;
    within(this.#form, ".conflict").hidden = !conflict;
    if (conflict) within(this.#form, ".watch-it").focus();
    else this.#fieldOf(place)?.focus();
  }

  /** @param {boolean} busy */
  #setBusy(busy) {
    this.#busy = busy;
    const button = within(this.#form, "[type=submit]");
    button.setAttribute("aria-disabled", String(busy));
    setText(button, busy ? "Starting" : "Start");
  }

  /** @param {string} name of the field in which something was typed */
  #typed(name) {
    this.#showError(name, "");
    this.#showError("form", "");
    if (name === "connid") within(this.#form, ".conflict").hidden = true;
    const { connid, time, note } = this.#fields;
    const last = this.#last.find((values) => values.connid === connid.value);
    // A name that was chosen from the list brings its other values with it.
    if (name === "connid" && last && note.value === "") {
      time.value = last.time;
      note.value = last.note;
    }
    setText(byId("time-hint"), typedTime(time.value));
  }

  /** @returns {Values[]} */
  get #last() {
    const last = recallJson("started");
    return Array.isArray(last) ? last : [];
  }

  /** @param {Values} values */
  #remember(values) {
    const others = this.#last.filter(({ connid }) => connid !== values.connid);
    keep("started", JSON.stringify([values, ...others].slice(0, REMEMBERED)));
    this.#showRemembered();
  }

  #showRemembered() {
    const [latest] = this.#last;
    const { time } = this.#fields;
    if (latest) time.value = String(latest.time);
    byId("last-names").replaceChildren(...this.#last.map(({ connid }) => make("option", "", { value: connid })));
    setText(byId("time-hint"), typedTime(time.value));
  }

  /**
   * @param {string} field a name, or `form` for what belongs to none
   * @param {string} text "" for no error
   */
  #showError(field, text) {
    const place = this.#form.querySelector(`[data-error-for="${field}"]`);
    if (place instanceof HTMLElement) setText(place, text);
    if (text) this.#fieldOf(field)?.setAttribute("aria-invalid", "true");
    else this.#fieldOf(field)?.removeAttribute("aria-invalid");
  }

  /**
   * @param {string} name
   * @returns {HTMLElement | undefined}
   */
  #fieldOf(name) {
    return new Map(Object.entries(this.#fields)).get(name);
  }
}

/** @param {Job | EndedJob} job */
function conflictText({ connid, by, deadline }) {
  return `${connid} is running already, started by ${who(by)}, until ${instant(deadline)}.`;
}
