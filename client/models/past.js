/**
 * Ended jobs of one room, as far back as they were asked for. Pure.
 *
 *   const past = new Past();
 *   past.take(answer);                         // of the command `history`
 *   merge([{ past, ended: state.ended() }, …]) -> { jobs, more }
 *
 * What is merged has no holes: where one room has been read less far back than another, what is
 * older than that is left out until it has been read as well.
 */

import { byEnd } from "./query.js";

const KEPT = 5_000;

/** @import { EndedJob } from "../follow/state.js" */
/** @import { Answer } from "../follow/connection.js" */

export class Past {
  /** @type {Map<string, EndedJob>} */
  #jobs = new Map(); // by run
  /** @type {number | null} */
  before = null; // what to ask for next; null at first and at the end
  asked = false;

  /** @param {Answer} answer */
  take({ jobs = [], before }) {
    for (const job of /** @type {EndedJob[]} */ (jobs)) this.#jobs.set(job.run, job);
    this.before = this.#jobs.size < KEPT ? (before ?? null) : null;
    this.asked = true;
  }

  /** Whether there is something older that was not read. */
  get more() {
    return !this.asked || this.before !== null;
  }

  /**
   * With the ended jobs that the room's events have brought since, the latest end first.
   *
   * @param {EndedJob[]} ended
   */
  with(ended) {
    const all = new Map(this.#jobs);
    for (const job of ended) all.set(job.run, job);
    return [...all.values()].sort(byEnd);
  }
}

/** @param {{ past: Past, ended: EndedJob[] }[]} rooms */
export function merge(rooms) {
  let since = -Infinity;
  const lists = rooms.map(({ past, ended }) => {
    const jobs = past.with(ended);
    const oldest = jobs.at(-1);
    if (past.more && oldest) since = Math.max(since, oldest.ended_at);
    return jobs;
  });
  const jobs = lists.flat().filter((job) => job.ended_at >= since);
  return { jobs: jobs.sort(byEnd), more: rooms.some(({ past }) => past.more) };
}
