/**
 * The keyboard: everything that the page does, by keys.
 *
 *   listenToKeys({ enabled, commands });    // commands: name -> function
 *
 * Single keys do nothing while something is typed or a dialog is open, nor where `enabled()` is false;
 * arrows, Enter and Escape always work.
 */

import { byId, isTyping, make } from "../browser/dom.js";

/**
 * @typedef {(press: KeyboardEvent) => boolean | void} KeyCommand returns false to leave the key to the browser
 *
 * @typedef {[key: string, command: string, text: string, name?: string]} Key
 */

/** @type {Key[]} */
const KEYS = [
  ["/", "search", "Search"],
  ["n", "start", "Start a job"],
  ["ArrowDown", "down", "Next job", "↓"],
  ["ArrowUp", "up", "Previous job", "↑"],
  ["PageDown", "pageDown", "A page down", "Page ↓"],
  ["PageUp", "pageUp", "A page up", "Page ↑"],
  ["Home", "first", "First job"],
  ["End", "last", "Last job"],
  ["Enter", "open", "Show the job's life"],
  ["x", "select", "Select the job, or drop it"],
  ["X", "reach", "Select all up to the job", "Shift x"],
  ["a", "selectAll", "Select all that match"],
  ["k", "kill", "Kill what is selected, or the job"],
  ["w", "watch", "Notify me when the job ends"],
  ["1", "running", "Running jobs"],
  ["2", "ended", "Ended jobs"],
  ["3", "timeline", "Timeline"],
  ["Escape", "escape", "Close, or select nothing", "Esc"],
  ["?", "help", "These keys"],
];

/** @param {{ enabled: () => boolean, commands: Record<string, KeyCommand> }} keyboard */
export function listenToKeys({ enabled, commands }) {
  byId("key-list").replaceChildren(
    ...KEYS.flatMap(([key, , text, name = key]) => {
      const term = make("dt");
      term.append(make("kbd", name));
      return [term, make("dd", text)];
    }),
  );
  document.addEventListener("keydown", (press) => {
    if (press.defaultPrevented || press.ctrlKey || press.metaKey || press.altKey) return;
    if (document.querySelector("dialog[open], :popover-open")) return;
    const { key, target } = press;
    const command = KEYS.find(([known]) => known === key)?.[1];
    if (!command || (isTyping(target) && key !== "Escape")) return;
    if (key.length === 1 && !enabled()) return;
    // Buttons, links and what scrolls keep the keys that are theirs.
    if (key === "Enter" && !(target instanceof Element && target.role === "row")) return;
    if (commands[command](press) !== false) press.preventDefault();
  });
}
