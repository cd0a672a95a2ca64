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

export class Past {
  #jobs = new Map(); // run -> job
  before = null; // what to ask for next; null at first and at the end
  asked = false;

  take({ jobs, before }) {
    for (const job of jobs) this.#jobs.set(job.run, job);
    this.before = this.#jobs.size < KEPT ? (before ?? null) : null;
    this.asked = true;
  }

  /** Whether there is something older that was not read. */
  get more() {
    return !this.asked || this.before !== null;
  }

  /** With the ended jobs that the room's events told since, the latest end first. */
  with(ended) {
    const all = new Map(this.#jobs);
    for (const job of ended) all.set(job.run, job);
    return [...all.values()].sort(byEnd);
  }
}

export function merge(rooms) {
  let since = -Infinity;
  const lists = rooms.map(({ past, ended }) => {
    const jobs = past.with(ended);
    if (past.more && jobs.length > 0) since = Math.max(since, jobs.at(-1).ended_at);
    return jobs;
  });
  const jobs = lists.flat().filter((job) => job.ended_at >= since);
  return { jobs: jobs.sort(byEnd), more: rooms.some(({ past }) => past.more) };
}
