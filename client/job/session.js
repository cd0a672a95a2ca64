/**
 * One connection to the server for all jobs of a program that have the same settings: while there are
 * any, and the next one when it is lost.
 *
 *   const session = new Session(settings, { onProblem, onIdle });
 *   const end = session.use();
 *   const socket = await session.connected();      // as soon as there is a connection
 *   session.nameFor("resize", 0);                  // "resize", or "resize-2" while ours has that
 */

import { Backoff } from "../follow/backoff.js";
import { Away, reasonOf, Socket } from "./socket.js";

const RETRY_FIRST_MS = 500;
const RETRY_MOST_MS = 15_000;
/** A connection that lasted as long was a good one: after it the backoff begins anew. */
const GOOD_MS = 15_000;
const IDLE_MS = 10_000;
/** Jobs that are watched one by one; with more, their whole room is. The server takes 100 (`MAX_JOINED`). */
const MOST_WATCHED = 80;
/** Ends that are remembered, as one may come before the answer that names its run. */
const MOST_ENDS = 256;
/** Numbers that are tried for a name that others have, before a random one. */
const TRIES = 3;
/** Characters of a connid. */
const MOST_NAME = 128;

/**
 * @import { Settings } from "./socket.js"
 *
 * @typedef {object} End how the server has ended a run
 * @property {string} run
 * @property {"killed" | "finished"} state
 * @property {string | null} [outcome]
 * @property {string | null} [by]
 * @property {string | null} [reason]
 */

/**
 * @typedef {object} Extended a run whose deadline may have been moved
 * @property {string} run
 * @property {number} deadline
 */

/**
 * @typedef {object} Listener who hears of a run
 * @property {(end: End) => void} ended
 * @property {(job: Extended) => void} extended when its deadline is moved
 */

export class Session {
  settings;
  #onProblem;
  #onIdle;
  #users = 0;
  /** @type {Socket | null} */
  #socket = null;
  /** @type {Promise<Socket> & { resolve: (socket: Socket) => void }} */
  #next = later();
  #running = false;
  #backoff = new Backoff(RETRY_FIRST_MS, RETRY_MOST_MS);
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #idle;
  /** @type {Map<string, Listener>} */
  #listeners = new Map(); // by run
  /** @type {Map<string, End>} */
  #ends = new Map(); // by run, the oldest first
  /** @type {Set<string>} */
  #names = new Set();
  /** @type {Set<string>} */
  #watched = new Set(); // connids; "" for the whole room

  /**
   * @param {Settings} settings
   * @param {{ onProblem: (message: string) => void, onIdle: () => void }} listener
   */
  constructor(settings, { onProblem, onIdle }) {
    this.settings = settings;
    this.#onProblem = onProblem;
    this.#onIdle = onIdle;
  }

  /**
   * Keep a connection until the function that is returned is called.
   *
   * @param {number | null} lease seconds, within which a lost connection is tried again twice
   */
  use(lease) {
    this.#users += 1;
    if (lease !== null) this.#backoff.limit(lease * 500);
    clearTimeout(this.#idle);
    if (!this.#running) this.#run();
    return () => {
      this.#users -= 1;
      if (this.#users === 0) this.#idle = setTimeout(() => this.#socket?.close(), IDLE_MS);
    };
  }

  /** The connection, as soon as there is one. */
  async connected() {
    return this.#socket ?? this.#next;
  }

  /**
   * Connect anew, unless that was done.
   *
   * @param {Socket} socket that is of no use
   */
  drop(socket) {
    if (socket !== this.#socket) return;
    this.#lost();
    socket.close();
  }

  /**
   * @param {Socket} socket
   * @param {string} command
   * @param {object} fields
   */
  call(socket, command, fields) {
    return socket.call(command, { room: this.settings.room, ...fields });
  }

  /**
   * A name that none of ours has, like the one that is wanted.
   *
   * @param {string} wanted
   * @param {number} taken how many turned out to be those of others
   */
  nameFor(wanted, taken) {
    let number = 1;
    while (this.#names.has(numbered(wanted, number))) number += 1;
    const suffix = taken < TRIES ? number + taken : Math.random().toString(36).slice(2, 8);
    const name = numbered(wanted, suffix);
    this.#names.add(name);
    return name;
  }

  /** @param {string} name */
  release(name) {
    this.#names.delete(name);
  }

  /**
   * Tell a listener of a run, and of its end at once where that has come already.
   *
   * @param {string} run
   * @param {Listener} listener
   */
  listen(run, listener) {
    this.#listeners.set(run, listener);
    const end = this.#ends.get(run);
    if (end) listener.ended(end);
  }

  /**
   * Have the server tell of a job over this connection; the job as it is now, where that is known.
   *
   * @param {Socket} socket
   * @param {string} connid
   */
  async watch(socket, connid) {
    if (this.#watched.has("")) return undefined;
    if (this.#watched.size >= MOST_WATCHED) {
      this.#watched.add("");
      await this.call(socket, "join", {});
      return undefined;
    }
    this.#watched.add(connid);
    return (await this.call(socket, "join", { connid })).job;
  }

  /**
   * A job of ours is over.
   *
   * @param {string} connid
   * @param {string} run
   */
  forget(connid, run) {
    this.#names.delete(connid);
    this.#listeners.delete(run);
    if (!this.#socket || !this.#watched.delete(connid)) return;
    // Nothing depends on it: a connection that is lost has left everything.
    this.call(this.#socket, "leave", { connid }).catch(() => {});
  }

  async #run() {
    this.#running = true;
    while (this.#users > 0) {
      const begun = performance.now();
      try {
        await this.#connectOnce();
      } catch (/** @type {any} */ error) {
        if (!(error instanceof Away)) throw error;
        // Once: each time that a token is refused counts against our address.
        this.#onProblem(this.#backoff.attempts === 0 ? await reasonOf(this.settings) : error.message);
      }
      this.#lost();
      if (performance.now() - begun > GOOD_MS) this.#backoff.reset();
      if (this.#users > 0) await pause(this.#backoff.next());
    }
    this.#running = false;
    this.#onIdle();
  }

  async #connectOnce() {
    const socket = await Socket.connect(this.settings, (name, event) => this.#heard(name, event));
    this.#socket = socket;
    this.#next.resolve(socket);
    await socket.closed;
  }

  #lost() {
    if (this.#socket !== null) this.#next = later();
    this.#socket = null;
    this.#watched.clear();
  }

  /**
   * @param {string} name
   * @param {any} event
   */
  #heard(name, event) {
    if (name === "closing") this.#onProblem(event.message);
    if (name === "extended") this.#listeners.get(event.run)?.extended(event);
    if (name !== "killed" && name !== "finished") return;
    const end = { ...event, state: name };
    this.#ends.set(event.run, end);
    if (this.#ends.size > MOST_ENDS) this.#ends.delete(this.#ends.keys().next().value ?? "");
    this.#listeners.get(event.run)?.ended(end);
  }
}

/** @param {number} ms */
const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));

/** A promise that is fulfilled from outside. */
function later() {
  /** @type {(socket: Socket) => void} */
  let resolve = () => {};
  const promise = new Promise((/** @type {(socket: Socket) => void} */ fulfil) => (resolve = fulfil));
  return Object.assign(promise, { resolve });
}

/**
 * @param {string} name
 * @param {number | string} suffix 1 for none
 */
function numbered(name, suffix) {
  const end = suffix === 1 ? "" : `-${suffix}`;
  return [...name].slice(0, MOST_NAME - end.length).join("") + end;
}
