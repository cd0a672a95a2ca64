/**
 * What the page says about itself: whether it is live, since when not, and who else is watching.
 *
 *   const line = new Line({ retry });
 *   line.show(status);                  // of the Connection
 *   line.show({ line: "missing" });     // there is nothing to connect with
 *   line.tick();                        // the retry counts down; returns seconds until the next change
 *   line.showPresence(presences);       // of the rooms that are shown
 *   line.notice("…");                   // a sentence above the lists; "" for none
 */

import { byId, setText } from "../browser/dom.js";
import { instant, watchers } from "../models/format.js";

const TEXTS = { connecting: "Connecting", "catching-up": "Catching up", live: "Live", refused: "Not let in", missing: "Not connected" };

export class Line {
  #retryAt = null; // by `performance.now()`: the date may be set

  constructor({ retry }) {
    byId("retry").querySelector("button").addEventListener("click", retry);
  }

  show({ line, since, retryAt = null }) {
    this.#retryAt = retryAt === null ? null : performance.now() + retryAt - Date.now();
    const offline = line === "offline" || (line === "connecting" && since);
    const text = offline ? `Offline since ${instant(since / 1000)}` : TEXTS[line];
    for (const place of document.querySelectorAll(".connection")) {
      setText(place, text);
      place.dataset.state = offline ? "offline" : line;
    }
    document.body.dataset.line = offline ? "offline" : line;
    byId("retry").hidden = !offline;
    this.tick();
  }

  tick() {
    if (byId("retry").hidden) return Infinity;
    const left = this.#retryAt === null ? 0 : (this.#retryAt - performance.now()) / 1000;
    setText(byId("retry").querySelector(".countdown"), left > 0 ? `trying again in ${Math.ceil(left)} s` : "trying now");
    byId("retry").querySelector("button").hidden = left <= 0;
    return left > 0 ? left % 1 || 1 : Infinity;
  }

  notice(text) {
    const notice = byId("notice").querySelector(".text");
    setText(notice, text);
    notice.hidden = text === "";
  }

  showPresence(presences) {
    const told = presences.filter(Boolean);
    const names = [...new Set(told.flatMap((presence) => presence.names))];
    const watching = Math.max(0, ...told.map((presence) => presence.watching));
    const { count, names: text } = watchers(told.length > 0 ? { watching, names } : null);
    setText(byId("watching").querySelector(".count"), count);
    setText(byId("watching").querySelector(".names"), text);
    byId("watching").title = text;
  }
}
