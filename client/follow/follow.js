/**
 * Follow a room of Hourglass from any page or program: a state that is right, whatever the network
 * does. It needs the official Socket.IO client, and `connection.js` and `state.js` beside it.
 *
 *   import { io } from "socket.io-client";
 *   import { follow } from "./follow.js";
 *
 *   const room = follow("main", { io, url: "https://hourglass.example.org", token });
 *   room.subscribe(() => {
 *     console.log(room.live ? "live" : "not up to date", room.running.map(({ connid }) => connid));
 *   });
 *   await room.command("kill", { connid: "backup", reason: "enough" });
 *   room.close();
 */

import { CommandError, Connection } from "./connection.js";
import { RoomState } from "./state.js";

export { CommandError };

/**
 * @typedef {import("./state.js").Job} Job
 * @typedef {import("./state.js").EndedJob} EndedJob
 * @typedef {import("./connection.js").Answer} Answer
 * @typedef {import("./connection.js").Status} Status
 * @typedef {import("./connection.js").Io} Io
 */

/**
 * @typedef {object} FollowOptions
 * @property {Io} io the Socket.IO client's function
 * @property {string} [url] the server's address; in a page that it has served, not needed
 * @property {string | (() => string)} [token] the token, or what gives the one of now at each connect
 * @property {string} [name] what others see, where no token says it
 * @property {number} [ended] how many of the last ended jobs are kept, 50 unless given; a snapshot has 50
 */

/**
 * Follow a room, from now until `close()`.
 *
 * @param {string} room
 * @param {FollowOptions} options
 */
export function follow(room, options) {
  return new Following(room, options);
}

/** A room that is followed. */
export class Following {
  /** @type {Connection} */
  #connection;
  /** @type {RoomState} */
  #state;
  /** @type {Set<() => void>} */
  #listeners = new Set();
  #told = true; // whether the listeners know of the last change

  /**
   * @param {string} room
   * @param {FollowOptions} options
   */
  constructor(room, { io, url, token, name, ended = 50 }) {
    this.#state = new RoomState(room, { endedLimit: ended });
    this.#connection = new Connection({
      io,
      url,
      credentials: () => ({ name, token: typeof token === "function" ? token() : token }),
      onEvent: () => this.#changed(),
      onChange: () => this.#changed(),
    });
    this.#connection.follow(this.#state);
    this.#connection.open();
  }

  /** Whether what is here is what is on the server: nothing is missing, and the connection is up. */
  get live() {
    const { connected, status } = this.#connection;
    return connected && status.line === "live" && this.refusal === null;
  }

  /**
   * How the connection is, and since when; see `connection.js`.
   *
   * @returns {Status}
   */
  get status() {
    return this.#connection.status;
  }

  /** Why the server does not let us in, or into the room; null when it does. */
  get refusal() {
    return this.#connection.status.refusal ?? this.#connection.refusalOf(this.#state.room);
  }

  /**
   * The running jobs, the newest first. Jobs are never changed in place: another state of a job is
   * another object.
   *
   * @returns {Job[]}
   */
  get running() {
    return this.#state.running();
  }

  /**
   * The last ended jobs, the newest first.
   *
   * @returns {EndedJob[]}
   */
  get ended() {
    return this.#state.ended();
  }

  /** How many clients are in the room, and the first of their names; null until that is known. */
  get presence() {
    return this.#state.presence;
  }

  /**
   * The seconds that a running job has left, by the server's clock; never below 0.
   *
   * @param {Job} job
   */
  remaining(job) {
    return Math.max(0, job.deadline - this.#connection.serverNow());
  }

  /**
   * Call `listener` now, and after each change: once for all the changes of one moment.
   *
   * @param {() => void} listener
   * @returns {() => void} what ends it
   */
  subscribe(listener) {
    // Another function each time, so that one listener may be subscribed twice.
    const entry = () => listener();
    this.#listeners.add(entry);
    listener();
    return () => this.#listeners.delete(entry);
  }

  /**
   * Give a command in this room, now or not at all; its answer.
   *
   * @param {string} name
   * @param {Record<string, unknown>} [fields]
   * @returns {Promise<Answer>}
   * @throws {CommandError} when it is refused, there is no connection, or no answer comes
   */
  command(name, fields = {}) {
    return this.#connection.command(name, { room: this.#state.room, ...fields });
  }

  /**
   * Make sure of the connection, as after a computer has slept: one that is dead without a word is
   * closed, and one that is down is tried again at once.
   */
  async check() {
    if (this.#connection.connected) await this.#connection.check();
    else this.#connection.open();
  }

  /** Hear no more, and call no listener again. */
  close() {
    this.#listeners.clear();
    this.#connection.close();
  }

  #changed() {
    if (!this.#told) return;
    this.#told = false;
    queueMicrotask(() => {
      this.#told = true;
      for (const listener of this.#listeners) listener();
    });
  }
}
