/**
 * Keeps the jobs of a program, as messages say: in a thread of its own, or in the page.
 *
 *   const host = new Host((message) => …);
 *   host.receive({ id: 1, type: "begin", settings, plan });
 *   host.receive({ id: 1, type: "report", done: 0.5, note: null });
 *   host.receive({ id: 1, type: "leave", outcome: "done", result: null });
 *
 * What it sends back is what a KeptJob tells, with the job's id, and at last `over`.
 */

import { KeptJob } from "./kept-job.js";
import { Session } from "./session.js";

/**
 * @import { End } from "./session.js"
 * @import { Settings } from "./socket.js"
 * @import { Outcome, Plan } from "./kept-job.js"
 *
 * @typedef {{ id: number, type: "begin", settings: Settings, plan: Plan }
 *   | { id: number, type: "report", done: number | null, note: string | null }
 *   | { id: number, type: "leave", outcome: Outcome, result: unknown }} Order
 *
 * @typedef {{ id: number, type: "reached" | "away" | "settled" | "over" }
 *   | { id: number, type: "ended", data: End }
 *   | { id: number, type: "extended", data: number }
 *   | { id: number, type: "problem", data: string }} Notice
 */

export class Host {
  #send;
  /** @type {Map<string, Session>} */
  #sessions = new Map(); // by their settings
  /** @type {Map<number, { job: KeptJob, session: Session }>} */
  #jobs = new Map();

  /** @param {(notice: Notice) => void} send */
  constructor(send) {
    this.#send = send;
  }

  /** @param {Order} order */
  receive(order) {
    if (order.type === "begin") this.#begin(order.id, order.settings, order.plan);
    else if (order.type === "report") this.#jobs.get(order.id)?.job.report(order.done, order.note);
    else this.#jobs.get(order.id)?.job.leave(order.outcome, order.result);
  }

  /**
   * @param {number} id
   * @param {Settings} settings
   * @param {Plan} plan
   */
  #begin(id, settings, plan) {
    const session = this.#sessionOf(settings);
    const job = new KeptJob(session, plan, (type, data) => this.#send(/** @type {Notice} */ ({ id, type, data })));
    this.#jobs.set(id, { job, session });
    const failed = (/** @type {Error} */ error) => this.#send({ id, type: "problem", data: String(error) });
    job.keep().catch(failed).then(() => {
      this.#jobs.delete(id);
      this.#send({ id, type: "over" });
    });
  }

  /** @param {Settings} settings */
  #sessionOf(settings) {
    const key = JSON.stringify(settings);
    const known = this.#sessions.get(key);
    if (known) return known;
    /** @type {Session} */
    const session = new Session(settings, {
      onProblem: (message) => this.#problem(session, message),
      onIdle: () => this.#sessions.delete(key),
    });
    this.#sessions.set(key, session);
    return session;
  }

  /**
   * @param {Session} session
   * @param {string} message
   */
  #problem(session, message) {
    for (const [id, kept] of this.#jobs) {
      if (kept.session !== session) continue;
      this.#send({ id, type: "away" });
      this.#send({ id, type: "problem", data: message });
    }
  }
}
