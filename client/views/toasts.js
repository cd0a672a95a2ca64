/**
 * Says what has become of what the reader did: seen for a moment, and heard by those who do not see.
 *
 *   say("Killed import.");
 *   const toast = say("No answer came.", { keep: true, tone: "bad" });
 *   toast.change("…"); toast.close();
 *
 *   unsay();                       // all that is still seen
 *
 *   announce("3 of 20 jobs");      // heard alone, when nothing more is said for a moment
 *
 * What is `keep`t stays until it is closed. `action` is `{ label, act }`.
 */

import { byId, make, setText } from "../browser/dom.js";

const SEEN_MS = 5_000;
const MOST = 4;
const PAUSE_MS = 400;

/** @type {ReturnType<typeof setTimeout> | undefined} */
let pause;

/** @param {string} text */
export function announce(text) {
  clearTimeout(pause);
  pause = setTimeout(() => setText(byId("said"), text), PAUSE_MS);
}

/** Close all that is still seen. */
export function unsay() {
  byId("toasts").replaceChildren();
  announce("");
}

/**
 * @typedef {object} Options
 * @property {boolean} [keep]
 * @property {"plain" | "bad"} [tone]
 * @property {{ label: string, act: () => void } | null} [action]
 *
 * @param {string} text
 * @param {Options} [options]
 */
export function say(text, { keep = false, tone = "plain", action = null } = {}) {
  announce(text);
  const words = make("p", text);
  const toast = make("div", "", { className: "toast" });
  toast.dataset.tone = tone;
  toast.append(words);
  const close = () => toast.remove();
  if (action) {
    const button = make("button", action.label, { type: "button", className: "link" });
    button.addEventListener("click", () => action.act());
    toast.append(button);
  }
  if (keep) {
    const button = make("button", "✕", { type: "button", className: "close" });
    button.setAttribute("aria-label", "Dismiss");
    button.addEventListener("click", close);
    toast.append(button);
  } else {
    setTimeout(close, SEEN_MS);
  }
  const toasts = byId("toasts");
  toasts.append(toast);
  while (toasts.children.length > MOST) toasts.firstElementChild?.remove();
  return { close, change: (/** @type {string} */ other) => setText(words, other) };
}
