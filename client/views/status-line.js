/**
 * What the page says about itself: whether it is live, since when not, and who else is watching.
 *
 *   const statusLine = new StatusLine({ retry });
 *   statusLine.show(status);                  // of the Connection
 *   statusLine.show({ line: "missing" });     // there is nothing to connect with
 *   statusLine.tick();                        // the retry counts down; returns seconds until the next change
 *   statusLine.showPresence(presences);       // of the rooms that are shown
 *   statusLine.notice("…");                   // a sentence above the lists; "" for none
 */

import { byId, setText, textOrHide, within } from "../browser/dom.js";
import { instant, watchers } from "../models/format.js";

/**
 * @import { Status } from "../follow/connection.js"
 *
 * @typedef {Status | { line: "missing", since?: undefined, retryAt?: undefined }} Shown
 *
 * @typedef {{ watching: number, names: string[] } | null} Presence
 */

const TEXTS = {
  connecting: "Connecting",
  "catching-up": "Catching up",
  live: "Live",
  offline: "Offline",
  refused: "Access denied",
  missing: "Not connected",
};

export class StatusLine {
  #retryIn = within(byId("retry"), ".countdown");
  #retryNow = within(byId("retry"), "button");
  #notice = within(byId("notice"), ".text");
  #retryAt = 0; // by `performance.now()`: the date may be set

  /** @param {{ retry: () => void }} actions */
  constructor({ retry }) {
    this.#retryNow.addEventListener("click", retry);
  }

  /** @param {Shown} status */
  show({ line, since, retryAt = 0 }) {
    this.#retryAt = performance.now() + retryAt - Date.now();
    const offline = line === "offline" || (line === "connecting" && since !== undefined);
    const text = since !== undefined && offline ? `Offline since ${instant(since / 1000)}` : TEXTS[line];
    for (const place of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".connection"))) {
      setText(place, text);
      place.dataset.state = offline ? "offline" : line;
    }
    document.body.dataset.line = offline ? "offline" : line;
    byId("retry").hidden = !offline;
    this.tick();
  }

  tick() {
    if (byId("retry").hidden) return Infinity;
    const left = (this.#retryAt - performance.now()) / 1000;
    setText(this.#retryIn, left > 0 ? `trying again in ${Math.ceil(left)} s` : "trying now");
    this.#retryNow.hidden = left <= 0;
    return left > 0 ? left % 1 || 1 : Infinity;
  }

  /** @param {string} text */
  notice(text) {
    textOrHide(this.#notice, text);
  }

  /** @param {Presence[]} presences */
  showPresence(presences) {
    const known = presences.filter((presence) => presence !== null);
    const names = [...new Set(known.flatMap((presence) => presence.names))];
    const watching = Math.max(0, ...known.map((presence) => presence.watching));
    const { count, names: text } = watchers(known.length > 0 ? { watching, names } : null);
    setText(within(byId("watching"), ".count"), count);
    setText(within(byId("watching"), ".names"), text);
    byId("watching").title = text;
  }
}
