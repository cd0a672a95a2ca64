/**
 * Tells the reader, also outside of the page, when a job that they picked has ended.
 *
 *   const watches = new Watches(open);
 *   await watches.toggle(job)     // -> a sentence about what will happen now
 *   watches.follow(find);         // after events; find(run) is the job as it is now
 */

import { say } from "./toasts.js";
import { ending } from "../models/format.js";

export class Watches {
  #open;
  #jobs = new Map(); // run -> job, while it runs

  constructor(open) {
    this.#open = open;
  }

  has(run) {
    return this.#jobs.has(run);
  }

  async toggle(job) {
    if (this.#jobs.delete(job.run)) return "You will not be told.";
    this.#jobs.set(job.run, job);
    if (!("Notification" in globalThis)) return "This page will say when it ends. This browser shows no notifications.";
    const permission = await Notification.requestPermission();
    return permission === "granted"
      ? "A notification will tell you when it ends, as long as this page is open."
      : "This page will say when it ends. For a notification outside of it, allow them in the browser's settings for this site.";
  }

  /** Tell of none of those that were picked. */
  forget() {
    this.#jobs.clear();
  }

  follow(find) {
    for (const [run, watched] of this.#jobs) {
      const job = find(run);
      if (job?.state === "running") continue;
      this.#jobs.delete(run);
      this.#tell(job ?? watched);
    }
  }

  #tell(job) {
    const ended = job.state === "running" ? "has ended" : `${ending(job).label} ${ending(job).by}`.trim();
    say(`${job.connid}: ${ended}`, { keep: true, action: { label: "Show", act: () => this.#open(job) } });
    if (globalThis.Notification?.permission !== "granted") return;
    const note = new Notification(`${job.connid}: ${ended}`, {
      body: job.reason ?? "",
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
