/**
 * The open rooms, each with its number of running jobs; which of them is shown; and more to open.
 *
 *   const tabs = new RoomTabs({ command, show, open, close });
 *   tabs.draw(states, { only, refusalOf });     // only "" shows all of them together
 *
 * `show(room)`, `open(room)` and `close(room)` are what the reader asked for.
 */

import { isRoom } from "../models/address.js";
import { byId, clone, make, partsOf, setText, within } from "../browser/dom.js";
import { count } from "../models/format.js";

const ALL = "";

/**
 * @import { RoomState } from "../follow/state.js"
 * @import { Answer, CommandError } from "../follow/connection.js"
 *
 * @typedef {object} Actions
 * @property {(name: string) => Promise<Answer>} command
 * @property {(room: string) => void} show
 * @property {(room: string) => void} open
 * @property {(room: string) => void} close
 *
 * @typedef {Record<"open" | "close" | "name" | "number", HTMLElement> & { element: HTMLElement }} Item
 */

export class RoomTabs {
  #actions;
  #list = byId("rooms");
  /** @type {Map<string, Item>} */
  #items = new Map(); // by room, or ALL
  #dialog = byId("rooms-dialog", HTMLDialogElement);
  #name = byId("room-name", HTMLInputElement);

  /** @param {Actions} actions */
  constructor(actions) {
    this.#actions = actions;
    byId("add-room").addEventListener("click", () => this.#ask());
    within(this.#dialog, "form").addEventListener("submit", (submit) => {
      const { submitter } = submit;
      if (submitter instanceof HTMLButtonElement && submitter.value === "open") this.#typed(submit);
    });
  }

  /**
   * @param {RoomState[]} states
   * @param {{ only: string, refusalOf: (room: string) => CommandError | null }} look
   */
  draw(states, { only, refusalOf }) {
    const several = states.length > 1;
    const total = states.reduce((sum, { size }) => sum + size, 0);
    const rooms = states.map(({ room, size, known }) => {
      const refusal = refusalOf(room);
      return { room, number: refusal && !refusal.passing ? "closed" : known ? size.toLocaleString("en") : "" };
    });
    if (several) rooms.unshift({ room: ALL, number: total.toLocaleString("en") });
    this.#dropOthers(rooms.map(({ room }) => room));
    for (const [place, { room, number }] of rooms.entries()) {
      const item = this.#itemOf(room);
      setText(item.number, number);
      item.open.setAttribute("aria-current", String(!several || room === only));
      item.close.hidden = !several || room === ALL;
      const there = this.#list.children[place] ?? null;
      if (there !== item.element) this.#list.insertBefore(item.element, there);
    }
  }

  /** @param {string[]} rooms */
  #dropOthers(rooms) {
    for (const [room, { element }] of this.#items) {
      if (rooms.includes(room)) continue;
      element.remove();
      this.#items.delete(room);
    }
  }

  /** @param {string} room */
  #itemOf(room) {
    const known = this.#items.get(room);
    if (known) return known;
    const element = clone("room-template");
    const parts = { element, ...partsOf(element, ["open", "close", "name", "number"]) };
    element.dataset.room = room;
    setText(parts.name, room === ALL ? "All" : room);
    parts.close.setAttribute("aria-label", `Close the room ${room}`);
    parts.open.addEventListener("click", () => this.#actions.show(room));
    parts.close.addEventListener("click", () => {
      this.#actions.close(room);
      byId("add-room").focus();
    });
    this.#items.set(room, parts);
    return parts;
  }

  /** @param {SubmitEvent} submit */
  #typed(submit) {
    const name = this.#name.value.trim();
    if (isRoom(name)) {
      this.#actions.open(name);
      return;
    }
    submit.preventDefault();
    setText(byId("room-error"), "A name is made of 1 to 64 letters, digits, dots, dashes and underscores.");
    this.#name.focus();
  }

  async #ask() {
    this.#name.value = "";
    setText(byId("room-error"), "");
    byId("rooms-list").replaceChildren();
    setText(byId("rooms-told"), "Asking which rooms there are");
    this.#dialog.showModal();
    try {
      const { rooms = [] } = await this.#actions.command("rooms");
      this.#offer(rooms);
    } catch (/** @type {any} */ error) {
      setText(byId("rooms-told"), error.message);
    }
  }

  /** @param {{ room: string, running: number }[]} rooms */
  #offer(rooms) {
    setText(byId("rooms-told"), rooms.length > 0 ? "Rooms in which jobs are running:" : "No jobs are running in any room.");
    const items = rooms.map(({ room, running }) => {
      const button = make("button", "", { type: "button" });
      button.append(make("span", room, { className: "name" }), " ", make("span", count(running, "job"), { className: "quiet" }));
      button.addEventListener("click", () => {
        this.#dialog.close();
        this.#actions.open(room);
      });
      const item = make("li");
      item.append(button);
      return item;
    });
    byId("rooms-list").replaceChildren(...items);
  }
}
