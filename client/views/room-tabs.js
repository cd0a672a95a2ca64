/**
 * The open rooms, each with its number of running jobs; which of them is shown; and more to open.
 *
 *   const rooms = new Rooms({ command, show, open, close });
 *   rooms.draw(states, { only, refusalOf });     // only "" shows all of them together
 *
 * `show(room)`, `open(room)` and `close(room)` are what the reader asked for.
 */

import { isRoom } from "../models/address.js";
import { byId, clone, make, partsOf, setText } from "../browser/dom.js";
import { count } from "../models/format.js";

const ALL = "";

export class Rooms {
  #actions;
  #list = byId("rooms");
  #items = new Map(); // room, or ALL -> its parts
  #dialog = byId("rooms-dialog");

  constructor(actions) {
    this.#actions = actions;
    byId("add-room").addEventListener("click", () => this.#ask());
    this.#dialog.querySelector("form").addEventListener("submit", (submit) => {
      if (submit.submitter?.value === "open") this.#typed(submit);
    });
  }

  draw(states, { only, refusalOf }) {
    const several = states.length > 1;
    const wanted = [...(several ? [ALL] : []), ...states.map(({ room }) => room)];
    for (const [room, { element }] of this.#items) {
      if (wanted.includes(room)) continue;
      element.remove();
      this.#items.delete(room);
    }
    const total = states.reduce((sum, { size }) => sum + size, 0);
    for (const room of wanted) {
      const { element, open, number, close } = this.#itemOf(room);
      const state = states.find((other) => other.room === room);
      const refusal = room === ALL ? null : refusalOf(room);
      const running = room === ALL ? total : state.size;
      const known = room === ALL || state.known;
      setText(number, refusal && !refusal.passing ? "closed" : known ? running.toLocaleString("en") : "");
      open.setAttribute("aria-current", String(!several || room === only));
      close.hidden = !several || room === ALL;
      if (this.#list.children[wanted.indexOf(room)] !== element) {
        this.#list.insertBefore(element, this.#list.children[wanted.indexOf(room)] ?? null);
      }
    }
  }

  #itemOf(room) {
    if (this.#items.has(room)) return this.#items.get(room);
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

  #typed(submit) {
    const name = byId("room-name").value.trim();
    if (isRoom(name)) return this.#actions.open(name);
    submit.preventDefault();
    setText(byId("room-error"), "A name is made of 1 to 64 letters, digits, dots, dashes and underscores.");
    byId("room-name").focus();
    return undefined;
  }

  async #ask() {
    byId("room-name").value = "";
    setText(byId("room-error"), "");
    byId("rooms-list").replaceChildren();
    setText(byId("rooms-told"), "Asking which rooms there are");
    this.#dialog.showModal();
    try {
      const { rooms } = await this.#actions.command("rooms");
      this.#offer(rooms);
    } catch (error) {
      setText(byId("rooms-told"), error.message);
    }
  }

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
