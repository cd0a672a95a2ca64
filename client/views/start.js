/**
 * The form that starts a job: errors at the fields that they name, last values remembered.
 *
 *   const start = new Start({ command, open });
 *   start.showRooms(["main", "ops"], "main");
 *   start.fill(job);      // with the values of an earlier one
 *   start.focus();
 */

import { byId, make, setText } from "../browser/dom.js";
import { keep, recallJson } from "../browser/storage.js";
import { say } from "./toasts.js";
import { instant, typedSeconds, typedTime, who } from "../models/format.js";

const REMEMBERED = 20;
const FIELDS = ["connid", "time", "note", "room"];

export class Start {
  #form = byId("start");
  #panel = byId("start-panel");
  #actions;
  #busy = false;
  #running = null; // the job that runs under the wanted name already

  constructor(actions) {
    this.#actions = actions;
    this.#form.addEventListener("input", ({ target }) => this.#typed(target));
    this.#form.addEventListener("submit", (submit) => {
      submit.preventDefault();
      this.#start({});
    });
    this.#form.querySelector(".watch-it").addEventListener("click", () => actions.open(this.#running));
    this.#form.querySelector(".replace-it").addEventListener("click", () => this.#start({ if_running: "replace" }));
    const wide = matchMedia("(min-width: 68rem)");
    const fit = () => (this.#panel.open = wide.matches);
    wide.addEventListener("change", fit);
    fit();
    this.#showRemembered();
  }

  /** Which rooms a job can be started in; there is only a choice where there are several. */
  showRooms(rooms, chosen) {
    const select = byId("room");
    const known = [...select.options].map(({ value }) => value);
    if (known.join() !== rooms.join()) {
      const before = select.value;
      select.replaceChildren(...rooms.map((room) => make("option", room, { value: room })));
      select.value = rooms.includes(before) ? before : chosen;
    }
    byId("start-room").hidden = rooms.length < 2;
  }

  choose(room) {
    byId("room").value = room;
  }

  fill({ connid, time, note, room }) {
    const { elements } = this.#form;
    elements.connid.value = connid;
    elements.time.value = String(time);
    elements.note.value = note ?? "";
    elements.room.value = room;
    this.#typed(elements.connid);
    this.focus();
  }

  focus() {
    this.#panel.open = true;
    this.#panel.scrollIntoView({ block: "nearest" });
    this.#form.elements.connid.focus();
  }

  async #start(more) {
    if (this.#busy) return;
    const { connid, time, note, room } = this.#form.elements;
    for (const field of [...FIELDS, "form"]) this.#showError(field, "");
    const typed = { connid: connid.value, time: typedSeconds(time.value) ?? time.value, room: room.value };
    this.#setBusy(true);
    try {
      await this.#actions.command("request", { ...typed, ...(note.value && { note: note.value }), ...more });
      this.#remember({ connid: connid.value, time: time.value, note: note.value });
      say(`Started ${connid.value}.`);
      connid.value = "";
      note.value = "";
      connid.focus();
    } catch (error) {
      this.#refused(error);
    } finally {
      this.#setBusy(false);
    }
  }

  #refused(error) {
    const conflict = error.code === "conflict";
    const field = conflict ? "connid" : FIELDS.includes(error.field) ? error.field : "form";
    this.#showError(field, conflict ? conflictText(error.job) : error.message);
    this.#running = error.job;
    this.#form.querySelector(".conflict").hidden = !conflict;
    if (conflict) this.#form.querySelector(".watch-it").focus();
    else this.#form.elements[field]?.focus();
  }

  #setBusy(busy) {
    this.#busy = busy;
    const button = this.#form.querySelector("[type=submit]");
    button.setAttribute("aria-disabled", String(busy));
    setText(button, busy ? "Starting" : "Start");
  }

  #typed(target) {
    this.#showError(target.name, "");
    this.#showError("form", "");
    if (target.name === "connid") this.#form.querySelector(".conflict").hidden = true;
    const { connid, time, note } = this.#form.elements;
    const last = this.#last.find((values) => values.connid === connid.value);
    // A name that was chosen from the list brings its other values with it.
    if (target === connid && last && note.value === "") {
      time.value = last.time;
      note.value = last.note;
    }
    setText(byId("time-hint"), typedTime(time.value));
  }

  get #last() {
    const last = recallJson("started");
    return Array.isArray(last) ? last : [];
  }

  #remember(values) {
    const others = this.#last.filter(({ connid }) => connid !== values.connid);
    keep("started", JSON.stringify([values, ...others].slice(0, REMEMBERED)));
    this.#showRemembered();
  }

  #showRemembered() {
    const [latest] = this.#last;
    const { time } = this.#form.elements;
    if (latest) time.value = String(latest.time);
    byId("last-names").replaceChildren(...this.#last.map(({ connid }) => make("option", "", { value: connid })));
    setText(byId("time-hint"), typedTime(time.value));
  }

  #showError(field, text) {
    const place = this.#form.querySelector(`[data-error-for="${field}"]`);
    if (place) setText(place, text);
    const input = this.#form.elements[field];
    if (text) input?.setAttribute?.("aria-invalid", "true");
    else input?.removeAttribute?.("aria-invalid");
  }
}

function conflictText({ connid, by, deadline }) {
  return `${connid} is running already, started by ${who(by)}, until ${instant(deadline)}.`;
}
