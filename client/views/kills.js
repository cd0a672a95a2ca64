/**
 * Asks once before one job or many are killed, kills them, and knows what is under way.
 *
 *   const kills = new Kills({ command, changed });
 *   kills.ask(jobs);
 *   kills.lookOf(job) -> { doing: "Killing", error: "No answer came. …" }
 *   kills.keep((run) => isRunning(run));    // what has ended is forgotten
 */

import { killAll } from "../models/bulk.js";
import { byId, make, setText } from "../browser/dom.js";
import { say } from "./toasts.js";
import { count, who } from "../models/format.js";

const NAMED = 5;
const NOTHING = {};

export class Kills {
  #actions;
  #looks = new Map(); // run -> what is known of its kill
  #asked = [];
  #dialog = byId("kill-dialog");

  constructor(actions) {
    this.#actions = actions;
    const form = this.#dialog.querySelector("form");
    form.addEventListener("submit", (submit) => {
      if (submit.submitter?.value !== "kill") return;
      this.#kill(this.#asked, form.elements.reason.value.trim());
    });
  }

  ask(jobs) {
    const running = jobs.filter((job) => job?.state === "running");
    if (running.length === 0) return;
    this.#asked = running;
    const [first] = running;
    const one = running.length === 1;
    setText(byId("kill-title"), one ? `Kill ${first.connid}?` : `Kill ${count(running.length, "job")}?`);
    setText(this.#dialog.querySelector(".danger"), one ? "Kill" : `Kill ${running.length.toLocaleString("en")}`);
    const named = running.slice(0, NAMED).map((job) => this.#line(job, one));
    if (running.length > NAMED) named.push(make("li", `and ${count(running.length - NAMED, "other")}`));
    this.#dialog.querySelector(".which").replaceChildren(...named);
    this.#dialog.querySelector("input").value = "";
    this.#dialog.showModal();
  }

  lookOf(job) {
    return this.#looks.get(job.run) ?? NOTHING;
  }

  keep(test) {
    for (const run of this.#looks.keys()) if (!test(run)) this.#looks.delete(run);
  }

  /** What could not be sent while there was no connection is no error any more. */
  forgetUnsent() {
    for (const [run, { code }] of this.#looks) if (code === "offline") this.#looks.delete(run);
  }

  #line(job, one) {
    const item = make("li", "", { dir: "auto" });
    const by = `started by ${who(job.by)}`;
    item.append(...(one ? [by] : [make("strong", job.connid), ` ${by}`]));
    return item;
  }

  async #kill(jobs, reason) {
    const fields = reason ? { reason } : {};
    const kill = ({ connid, run, room }) => this.#actions.command("kill", { connid, run, room, ...fields });
    for (const { run } of jobs) this.#looks.set(run, { doing: "Killing" });
    this.#actions.changed();
    if (jobs.length === 1) await this.#killOne(jobs[0], kill);
    else await this.#killMany(jobs, kill);
    this.#actions.changed();
  }

  async #killOne(job, kill) {
    try {
      await kill(job);
      this.#looks.delete(job.run);
      say(`Killed ${job.connid}.`);
    } catch (error) {
      this.#failed(job, error);
      say(`${job.connid}: ${error.message}`, { tone: "bad", keep: error.code === "no_answer" });
    }
  }

  async #killMany(jobs, kill) {
    const stopping = new AbortController();
    const stop = { label: "Stop", act: () => stopping.abort() };
    const toast = say(`Killing ${count(jobs.length, "job")}`, { keep: true, action: stop });
    const onProgress = ({ killed }) => toast.change(`Killing ${count(jobs.length, "job")}: ${killed.toLocaleString("en")} so far`);
    const told = await killAll(jobs, kill, { onProgress, signal: stopping.signal });
    toast.close();
    for (const { run } of jobs) this.#looks.delete(run);
    for (const { job, error } of told.failed) this.#failed(job, error);
    const bad = told.unsent > 0 || told.failed.length > 0;
    say(summary(told), { tone: bad ? "bad" : "plain", keep: bad });
  }

  #failed(job, { code, message }) {
    this.#looks.set(job.run, { error: message, code });
  }
}

function summary({ killed, gone, unsent, failed }) {
  const parts = [`Killed ${count(killed, "job")}.`];
  if (gone > 0) parts.push(`${count(gone, "job")} had ended before.`);
  if (unsent > 0) parts.push(`${count(unsent, "kill")} not sent.`);
  if (failed.length > 0) parts.push(`${count(failed.length, "kill")} failed: ${failed[0].error.message}`);
  return parts.join(" ");
}
