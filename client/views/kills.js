/**
 * Asks once before one job or many are killed, and says what has become of it.
 *
 *   const kills = new Kills({ command, changed });
 *   kills.ask(jobs);
 *   kills.lookOf(job) -> { doing: "Killing" } or { error: "No answer came. …" }
 *   kills.keep((run) => isRunning(run));    // what has ended is forgotten
 */

import { byId, make, setText, within } from "../browser/dom.js";
import { count, whatKillDoes, who } from "../models/format.js";
import { KillTracker } from "../models/kill-tracker.js";
import { say } from "./toasts.js";

/** How many jobs the question names. */
const NAMED = 5;

/**
 * @typedef {import("../follow/state.js").Job} Job
 * @typedef {import("../follow/state.js").EndedJob} EndedJob
 *
 * @typedef {object} Actions
 * @property {import("../follow/connection.js").Command} command
 * @property {() => void} changed
 */

export class Kills {
  #changed;
  #tracker;
  /** @type {Job[]} */
  #asked = [];
  #dialog = byId("kill-dialog", HTMLDialogElement);

  /** @param {Actions} actions */
  constructor({ command, changed }) {
    this.#changed = changed;
    this.#tracker = new KillTracker((fields) => command("kill", fields));
    within(this.#dialog, "form").addEventListener("submit", ({ submitter }) => {
      if (!(submitter instanceof HTMLButtonElement) || submitter.value !== "kill") return;
      this.#kill(this.#asked, this.#reason.value.trim());
    });
  }

  /** @param {(Job | EndedJob | undefined)[]} jobs those that run are killed, if the reader says so */
  ask(jobs) {
    const running = jobs.filter((job) => job?.state === "running");
    if (running.length === 0) return;
    this.#asked = running;
    const [first] = running;
    const one = running.length === 1;
    setText(byId("kill-title"), one ? `Kill ${first.connid}?` : `Kill ${count(running.length, "job")}?`);
    setText(within(this.#dialog, ".danger"), one ? "Kill" : `Kill ${running.length.toLocaleString("en")}`);
    const named = running.slice(0, NAMED).map((job) => lineOf(job, one));
    if (running.length > NAMED) named.push(make("li", `and ${count(running.length - NAMED, "other")}`));
    within(this.#dialog, ".which").replaceChildren(...named);
    this.#reason.value = "";
    this.#dialog.showModal();
  }

  /** @param {{ run: string }} job */
  lookOf(job) {
    return this.#tracker.lookOf(job);
  }

  /** @param {(run: string) => boolean} test */
  keep(test) {
    this.#tracker.keep(test);
  }

  /** What could not be sent while there was no connection is no error any more. */
  forgetUnsent() {
    this.#tracker.forgetUnsent();
  }

  get #reason() {
    return within(this.#dialog, "input", HTMLInputElement);
  }

  /**
   * @param {Job[]} jobs
   * @param {string} reason
   */
  async #kill(jobs, reason) {
    const killing = jobs.length === 1 ? this.#killOne(jobs[0], reason) : this.#killMany(jobs, reason);
    this.#changed();
    await killing;
    this.#changed();
  }

  /**
   * @param {Job} job
   * @param {string} reason
   */
  async #killOne(job, reason) {
    try {
      await this.#tracker.kill(job, reason);
      say(`Killed ${job.connid}.`);
    } catch (/** @type {any} */ error) {
      say(`${job.connid}: ${error.message}`, { tone: "bad", keep: error.code === "no_answer" });
    }
  }

  /**
   * @param {Job[]} jobs
   * @param {string} reason
   */
  async #killMany(jobs, reason) {
    const stopping = new AbortController();
    const doing = `Killing ${count(jobs.length, "job")}`;
    const toast = say(doing, { keep: true, action: { label: "Stop", act: () => stopping.abort() } });
    const result = await this.#tracker.killAll(jobs, reason, {
      onProgress: ({ killed }) => toast.change(`${doing}: ${killed.toLocaleString("en")} so far`),
      signal: stopping.signal,
    });
    toast.close();
    const bad = result.unsent > 0 || result.failed.length > 0;
    say(summary(result), { tone: bad ? "bad" : "plain", keep: bad });
  }
}

/**
 * @param {Job} job
 * @param {boolean} alone
 */
function lineOf(job, alone) {
  const item = make("li", "", { dir: "auto" });
  const by = `started by ${who(job.by)}`;
  item.append(...(alone ? [by] : [make("strong", job.connid), ` ${by}`]));
  if (whatKillDoes(job)) item.append(make("p", whatKillDoes(job)));
  return item;
}

/** @param {import("../models/bulk.js").BulkResult} result */
function summary({ killed, gone, unsent, failed }) {
  const parts = [`Killed ${count(killed, "job")}.`];
  if (gone > 0) parts.push(`${count(gone, "job")} had ended before.`);
  if (unsent > 0) parts.push(`${count(unsent, "kill")} not sent.`);
  if (failed.length > 0) parts.push(`${count(failed.length, "kill")} failed: ${failed[0].error.message}`);
  return parts.join(" ");
}
