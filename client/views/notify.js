/**
 * Notifies the reader, also outside of the page, when a job that they picked has ended.
 *
 *   const watches = new Watches(open);
 *   await watches.toggle(job)     // -> a sentence about what will happen now
 *   watches.follow(find);         // after events; find(run) is the job as it is now
 */

import { say } from "./toasts.js";
import { ending } from "../models/format.js";

/** @import { EndedJob, Job } from "../follow/state.js" */

export class Watches {
  #open;
  /** @type {Map<string, Job | EndedJob>} */
  #jobs = new Map(); // by run, while it runs

  /** @param {(job: Job | EndedJob) => void} open */
  constructor(open) {
    this.#open = open;
  }

  /** @param {string} run */
  has(run) {
    return this.#jobs.has(run);
  }

  /** @param {Job | EndedJob} job */
  async toggle(job) {
    if (this.#jobs.delete(job.run)) return "You will not be notified.";
    this.#jobs.set(job.run, job);
    if (!("Notification" in globalThis)) return "This page will say when it ends. This browser shows no notifications.";
    const permission = await Notification.requestPermission();
    return permission === "granted"
      ? "A notification will tell you when it ends, as long as this page is open."
      : "This page will say when it ends. For a notification outside of it, allow them in the browser's settings for this site.";
  }

  /** Notify of none of those that were picked. */
  forget() {
    this.#jobs.clear();
  }

  /** @param {(run: string) => Job | EndedJob | undefined} find */
  follow(find) {
    for (const [run, watched] of this.#jobs) {
      const job = find(run);
      if (job?.state === "running") continue;
      this.#jobs.delete(run);
      this.#notify(job ?? watched);
    }
  }

  /** @param {Job | EndedJob} job */
  #notify(job) {
    const ended = job.state === "running" ? "has ended" : `${ending(job).label} ${ending(job).by}`.trim();
    say(`${job.connid}: ${ended}`, { keep: true, action: { label: "Show", act: () => this.#open(job) } });
    if (!("Notification" in globalThis) || Notification.permission !== "granted") return;
    const note = new Notification(`${job.connid}: ${ended}`, {
      body: ("reason" in job && job.reason) || "",
      icon: "/client/favicon.svg",
      tag: job.run,
    });
    note.addEventListener("click", () => {
      focus();
      this.#open(job);
      note.close();
    });
  }
}
