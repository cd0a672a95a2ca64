/**
 * More time for the job that is shown: what is often given by one press, anything else as it is typed.
 *
 *   const more = new MoreTime(panel, { command, job: () => job, tell });
 *   more.show(job);              // null for none, or one that has ended
 *
 * Whoever presses says which deadline they have seen: of two who press at once, one is told so.
 */

import { make, setText, within } from "../browser/dom.js";
import { duration, instant, typedTime } from "../models/format.js";
import { typedSeconds } from "../job/seconds.js";

/** Seconds, and how they are called. */
const OFTEN = /** @type {const} */ ([
  [300, "5 min"],
  [1800, "30 min"],
  [7200, "2 h"],
]);

/**
 * @import { Job, EndedJob } from "../follow/state.js"
 *
 * @typedef {object} Actions
 * @property {import("../follow/connection.js").Command} command
 * @property {() => Job | EndedJob | null} job that is shown
 * @property {(text: string) => void} tell says what has come of it
 */

export class MoreTime {
  #actions;
  #toggle;
  #form;
  #input;
  #run = "";

  /**
   * @param {HTMLElement} panel
   * @param {Actions} actions
   */
  constructor(panel, actions) {
    this.#actions = actions;
    this.#toggle = within(panel, ".more-time-button", HTMLButtonElement);
    this.#form = within(panel, ".more-time", HTMLFormElement);
    this.#input = within(this.#form, "input", HTMLInputElement);
    const often = OFTEN.map(([seconds, name]) => {
      const button = make("button", `+ ${name}`);
      button.setAttribute("type", "button");
      button.addEventListener("click", () => this.#give(seconds));
      return button;
    });
    within(this.#form, ".often").replaceChildren(...often);
    this.#toggle.addEventListener("click", () => this.#open(this.#form.hidden === true));
    this.#input.addEventListener("input", () => setText(within(this.#form, ".hint"), typedTime(this.#input.value)));
    this.#form.addEventListener("submit", (submit) => {
      submit.preventDefault();
      const seconds = typedSeconds(this.#input.value);
      if (seconds === null) this.#actions.tell("How much more time? Such as 90, 5m or 1h 30m.");
      else this.#give(seconds);
    });
  }

  /** @param {Job | EndedJob | null} job */
  show(job) {
    const running = job?.state === "running";
    this.#toggle.hidden = !running;
    if (!running || job.run !== this.#run) this.#open(false);
    this.#run = job?.run ?? "";
  }

  /** @param {boolean} open */
  #open(open) {
    this.#form.hidden = !open;
    this.#toggle.setAttribute("aria-expanded", String(open));
    if (open) this.#input.focus({ preventScroll: true });
  }

  /** @param {number} time */
  async #give(time) {
    const job = this.#actions.job();
    if (job?.state !== "running") return;
    const { room, connid, run, deadline } = job;
    this.#actions.tell(`Asking for ${duration(time)} more`);
    try {
      const { job: now } = await this.#actions.command("extend", { room, connid, run, deadline, time });
      this.#input.value = "";
      setText(within(this.#form, ".hint"), "");
      this.#actions.tell(now ? `It may run until ${instant(now.deadline)}.` : "It may run longer.");
    } catch (/** @type {any} */ error) {
      this.#actions.tell(error.message);
    }
  }
}
