/**
 * What the charts show: the trend of each open room, fed by its state and, once, by its history.
 *
 *   const feed = new ChartsFeed({ rooms, command, now });
 *   feed.sample();                // at least once for each STEP of a trend
 *   feed.backfill();              // when the page has become live
 *   feed.series("main")
 */

import { series, Trend } from "../models/trend.js";

const BACKFILL = 500;

/**
 * @typedef {import("../follow/state.js").RoomState} RoomState
 *
 * @typedef {object} Source
 * @property {import("./open-rooms.js").OpenRooms} rooms
 * @property {import("../follow/connection.js").Command} command
 * @property {() => number} now seconds, by the server's clock
 */

export class ChartsFeed {
  #source;
  /** @type {WeakMap<RoomState, Trend>} */
  #trends = new WeakMap();

  /** @param {Source} source */
  constructor(source) {
    this.#source = source;
  }

  /** Only for a page that is live: what is not known is a gap in the charts. */
  sample() {
    const now = this.#source.now();
    for (const state of this.#source.rooms.all()) this.#trendOf(state).follow(state, now);
  }

  /** Ask once for ended jobs that are in no snapshot, so that the charts begin in the past. */
  backfill() {
    this.sample();
    for (const state of this.#source.rooms.all()) {
      if (this.#trendOf(state).learned) continue;
      const asking = this.#source.command("history", { room: state.room, limit: BACKFILL });
      // Charts without a past are better than an error about them.
      asking.then((answer) => this.#trendOf(state).learn(state, answer)).catch(() => {});
    }
  }

  /** @param {string} only a room, or "" for all */
  series(only) {
    const trends = this.#source.rooms.shown(only).map((state) => this.#trendOf(state));
    return series(trends, this.#source.now());
  }

  /** @param {RoomState} state */
  #trendOf(state) {
    const trend = this.#trends.get(state) ?? new Trend();
    this.#trends.set(state, trend);
    return trend;
  }
}
