/**
 * The states of the rooms that are open, each kept up to date by the connection once there is one.
 *
 *   const rooms = new OpenRooms();
 *   rooms.connect(connection);
 *   rooms.open(["main", "ops"]);      // these and no others
 *   rooms.all(); rooms.shown("ops"); rooms.find(run);
 */

import { RoomState } from "../follow/state.js";

const ENDED_KEPT = 1_000;

/**
 * @typedef {import("../follow/state.js").Job} Job
 * @typedef {import("../follow/state.js").EndedJob} EndedJob
 * @typedef {import("../follow/connection.js").Connection} Connection
 */

export class OpenRooms {
  /** @type {Map<string, RoomState>} */
  #states = new Map();
  /** @type {Connection | null} */
  #connection = null;

  /** @param {Connection} connection */
  connect(connection) {
    this.#connection = connection;
    for (const state of this.#states.values()) connection.follow(state);
  }

  /** @param {string[]} rooms */
  open(rooms) {
    for (const room of this.#states.keys()) if (!rooms.includes(room)) this.#close(room);
    for (const room of rooms) {
      if (this.#states.has(room)) continue;
      const state = new RoomState(room, { endedLimit: ENDED_KEPT });
      this.#states.set(room, state);
      this.#connection?.follow(state);
    }
  }

  closeAll() {
    for (const room of this.#states.keys()) this.#close(room);
  }

  all() {
    return [...this.#states.values()];
  }

  /**
   * The states that are shown: that of one room, or all where `only` is "".
   *
   * @param {string} only
   */
  shown(only) {
    return only ? this.all().filter(({ room }) => room === only) : this.all();
  }

  /**
   * @param {string} run
   * @returns {Job | EndedJob | undefined}
   */
  find(run) {
    for (const state of this.#states.values()) {
      const job = state.find(run);
      if (job) return job;
    }
    return undefined;
  }

  /**
   * The job of a run; where none is given, the running or else the last job of a name.
   *
   * @param {string} room
   * @param {string} connid
   * @param {string} run "" for none
   * @returns {Job | EndedJob | undefined}
   */
  findJob(room, connid, run) {
    if (run) return this.find(run);
    const state = this.#states.get(room);
    const named = (/** @type {Job | EndedJob} */ job) => job.connid === connid;
    return state?.running().find(named) ?? state?.ended().find(named);
  }

  /** @param {string} room */
  #close(room) {
    this.#states.delete(room);
    this.#connection?.unfollow(room);
  }
}
