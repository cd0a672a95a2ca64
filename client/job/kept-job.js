/**
 * A job, kept on the server from its start to its end, over however many connections.
 *
 *   const job = new KeptJob(session, plan, tell);
 *   job.keep();                         // fulfilled when the server knows how it ended
 *   job.report(0.5, "rows");            // how far the work is
 *   job.leave("done", result);          // how the work ended; "stopped" after a kill
 *
 * `tell(name, data)` says what happens: `reached` when there is a connection; `settled` when the work
 * need wait no more, as the job is on the server or cannot be; `ended` with the `End` of a job that was
 * killed or timed out; `extended` with the seconds that it may run longer; `problem` with a message.
 */

import { CommandError } from "../follow/connection.js";
import { Away } from "./socket.js";

/** Between two reports of a progress that changes. */
const PROGRESS_EVERY_MS = 500;
/** Until what was refused is tried again, where that may help later. */
const AGAIN_MS = 10_000;
const SOON_MS = 500;
/** That a plan can be on its way to us, while a thread starts. */
const MOST_UNDER_WAY_MS = 5_000;
/** The shortest time of a job that has ended before the server could hear of it, in seconds. */
const LEAST_TIME = 1;

/**
 * @import { Session, End, Extended } from "./session.js"
 * @import { Socket } from "./socket.js"
 *
 * @typedef {object} Plan the job as its program wants it
 * @property {string} name
 * @property {number} time seconds that were left at `sentAt`
 * @property {number} sentAt by `Date.now()`
 * @property {number | null} lease in seconds
 * @property {string | null} note
 * @property {boolean} replace whether another of the same name is killed first
 *
 * @typedef {"done" | "failed" | "stopped"} Outcome
 *
 * @typedef {{ done: number | null, note: string | null }} Report
 */

/** @type {Report} */
const NOTHING = { done: null, note: null };

export class KeptJob {
  #session;
  #plan;
  #tell;
  #limitAt; // by `performance.now()`
  #deadline = 0; // by the server's clock
  #connid = "";
  #taken = 0; // how many names turned out to be those of others
  #run = "";
  #key = crypto.randomUUID();
  /** @type {Report} */
  #report = NOTHING;
  #sent = NOTHING;
  #sentAt = 0;
  /** @type {End | null} */
  #end = null; // by the server
  /** @type {{ outcome: Outcome, result: unknown } | null} */
  #left = null; // by the program
  #over = false;
  #wake = () => {};

  /**
   * @param {Session} session
   * @param {Plan} plan
   * @param {(type: "reached" | "settled" | "ended" | "extended" | "problem", data?: any) => void} tell
   */
  constructor(session, plan, tell) {
    this.#session = session;
    this.#plan = plan;
    this.#tell = tell;
    // No other clock is the same in all threads. Should the date be set just now, it costs no more than this.
    const underWay = Math.min(MOST_UNDER_WAY_MS, Math.max(0, Date.now() - plan.sentAt));
    this.#limitAt = performance.now() + plan.time * 1000 - underWay;
  }

  /**
   * @param {number | null} done
   * @param {string | null} note
   */
  report(done, note) {
    this.#report = { done, note };
    this.#wake();
  }

  /**
   * @param {Outcome} outcome
   * @param {unknown} result
   */
  leave(outcome, result) {
    this.#left = { outcome, result };
    this.#wake();
  }

  async keep() {
    const release = this.#session.use(this.#plan.lease);
    while (!this.#over) {
      const socket = await this.#session.connected();
      this.#tell("reached");
      try {
        await this.#serve(socket);
      } catch (/** @type {any} */ error) {
        if (error instanceof Away) this.#session.drop(socket);
        else if (error instanceof CommandError) await this.#refused(error);
        else throw error;
      }
    }
    this.#session.forget(this.#connid, this.#run);
    release();
  }

  /** @param {Socket} socket */
  async #serve(socket) {
    socket.closed.then(() => this.#wake());
    if (this.#run === "" && this.#end === null) await this.#request(socket);
    if (this.#run !== "" && this.#end === null) await this.#watch(socket);
    while (!this.#over) {
      if (this.#left !== null) await this.#finish(socket, this.#left);
      else if (this.#run === "" && this.#end === null) await this.#request(socket).then(() => this.#watch(socket));
      else await this.#renewOrWait(socket);
    }
  }

  /**
   * Start the job, with the time that is left: also one whose work has ended, to be seen in the history.
   *
   * @param {Socket} socket
   */
  async #request(socket) {
    const left = (this.#limitAt - performance.now()) / 1000;
    if (left <= 0 && this.#left === null) {
      this.#ended({ run: "", state: "finished", outcome: "elapsed" });
      return;
    }
    const { name, note, lease, replace } = this.#plan;
    this.#connid ||= replace ? name : this.#session.nameFor(name, this.#taken);
    try {
      const { job } = await this.#session.call(socket, "request", {
        ...{ connid: this.#connid, key: this.#key, note, lease },
        time: Math.max(left, this.#left === null ? 0 : LEAST_TIME),
        if_running: replace ? "replace" : "reject",
        stoppable: "cooperative", // It is told by an AbortSignal.
      });
      if (job) this.#begun(job);
    } catch (/** @type {any} */ error) {
      if (!(error instanceof CommandError)) throw error;
      if (error.code !== "conflict") throw error;
      this.#session.release(this.#connid);
      this.#connid = "";
      this.#taken += 1;
      await this.#request(socket);
    }
  }

  /** @param {Extended & { state: string }} job */
  #begun(job) {
    this.#run = job.run;
    this.#deadline = job.deadline;
    this.#sent = NOTHING;
    this.#sentAt = performance.now();
    this.#tell("settled");
    this.#session.listen(job.run, { ended: (end) => this.#ended(end), extended: (moved) => this.#learnDeadline(moved) });
    if (job.state !== "running") this.#ended(/** @type {End} */ (job));
  }

  /**
   * Hear of its end from now on, and whether that was in a time when we could not hear.
   *
   * @param {Socket} socket
   */
  async #watch(socket) {
    if (this.#run === "" || this.#end !== null) return;
    const job = await this.#session.watch(socket, this.#connid);
    const running = job?.run === this.#run && job.state === "running";
    if (running) this.#learnDeadline(job);
    else await this.#renew(socket);
  }

  /** @param {Socket} socket */
  async #renewOrWait(socket) {
    const { lease } = this.#plan;
    const changed = this.#report !== this.#sent;
    const every = changed ? PROGRESS_EVERY_MS : lease === null ? Infinity : (lease * 1000) / 3;
    const wait = this.#sentAt + every - performance.now();
    if (this.#end === null && wait <= 0) {
      await this.#renew(socket);
      return;
    }
    await this.#wait(this.#end === null ? wait : Infinity, socket);
  }

  /**
   * Tell the latest progress, which renews the lease; or learn that the job has ended.
   *
   * @param {Socket} socket
   */
  async #renew(socket) {
    const report = this.#report;
    try {
      await this.#call(socket, "progress", report);
    } catch (/** @type {any} */ error) {
      if (error.code === "not_running") await this.#learnEnd(socket, error);
      else if (error.code === "invalid") await this.#call(socket, "progress", {}); // It takes less than that.
      else throw error;
    }
    this.#sent = report;
    this.#sentAt = performance.now();
  }

  /**
   * How a run ended that is not running. Others may have had its name since.
   *
   * @param {Socket} socket
   * @param {CommandError} error
   */
  async #learnEnd(socket, { job }) {
    if (job?.run === this.#run) {
      this.#ended(/** @type {End} */ (job));
      return;
    }
    const { jobs = [] } = await this.#session.call(socket, "history", { connid: this.#connid });
    const found = /** @type {End | undefined} */ (jobs.find(({ run }) => run === this.#run));
    this.#ended(found ?? { run: this.#run, state: "finished", outcome: "lost" });
  }

  /** @param {Extended} job */
  #learnDeadline({ run, deadline }) {
    if (run !== this.#run || deadline === this.#deadline) return;
    const more = deadline - this.#deadline;
    this.#deadline = deadline;
    this.#limitAt += more * 1000;
    this.#tell("extended", more);
  }

  /** @param {End} end */
  #ended(end) {
    if (this.#end !== null || end.run !== this.#run) return;
    if (end.outcome === "lost") {
      // We were away for longer than the lease: it begins anew.
      this.#run = "";
      this.#key = crypto.randomUUID();
    } else {
      this.#end = end;
      if (end.state === "killed" || end.outcome === "elapsed") this.#tell("ended", end);
    }
    this.#wake();
  }

  /**
   * @param {Socket} socket
   * @param {{ outcome: Outcome, result: unknown }} left
   */
  async #finish(socket, { outcome, result }) {
    if (this.#run === "" && this.#end === null) await this.#request(socket);
    if (this.#end === null && outcome === "stopped") {
      await this.#wait(Infinity, socket); // By our clock its time is over; by the server's it will be at once.
      return;
    }
    if (this.#end === null && this.#report !== this.#sent) {
      await this.#renew(socket);
      return; // How it ended comes next, by what we know then.
    }
    if (this.#end === null) {
      try {
        await this.#call(socket, "finish", { outcome, result });
        this.#over = true;
      } catch (/** @type {any} */ error) {
        if (error.code === "invalid" && result !== undefined) {
          this.#left = { outcome, result: undefined }; // It takes less than that.
        } else if (error.code === "not_running") {
          await this.#learnEnd(socket, error); // It is told once more, by what we know now.
        } else {
          throw error;
        }
      }
      return;
    }
    const isGone = this.#end.state === "killed" || this.#end.outcome === "elapsed";
    if (isGone && this.#run !== "") await this.#call(socket, "stopped", {});
    this.#over = true;
  }

  /**
   * Go on without what was refused: later it may be had, or there is nothing more to tell.
   *
   * @param {CommandError} error
   */
  async #refused(error) {
    this.#tell("settled");
    if (error.passing) {
      await this.#pause((error.retryAfter ?? 0) * 1000 || SOON_MS);
      return;
    }
    this.#tell("problem", error.message);
    if (error.code === "invalid" || this.#left !== null) this.#over = true;
    else await this.#pause(AGAIN_MS);
  }

  /**
   * @param {Socket} socket
   * @param {string} command
   * @param {object} fields
   */
  #call(socket, command, fields) {
    return this.#session.call(socket, command, { connid: this.#connid, run: this.#run, ...fields });
  }

  /**
   * Wait until there is something to do; throws Away when the connection is lost.
   *
   * @param {number} ms
   * @param {Socket} socket
   */
  async #wait(ms, socket) {
    socket.check();
    await this.#pause(ms);
    socket.check();
  }

  /**
   * Wait until there is something to do.
   *
   * @param {number} ms
   * @returns {Promise<void>}
   */
  #pause(ms) {
    return new Promise((woken) => {
      const timer = ms < Infinity ? setTimeout(woken, ms) : undefined;
      this.#wake = () => {
        clearTimeout(timer);
        woken();
      };
    });
  }
}
