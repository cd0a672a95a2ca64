/**
 * Draws the page from the states alone, at most once in a frame, and idles while nothing would look
 * different.
 *
 *   const renderer = new Renderer({ navigation, rooms, feed, views, server });
 *   renderer.changed();       // something is different: it is drawn with the next frame
 */

import { byId } from "../browser/dom.js";
import { FrameTimer } from "../browser/frame-timer.js";
import { count } from "../models/format.js";
import { matcher } from "../models/query.js";

const HIDDEN_TITLE_MS = 1_000;
const EVENTS_A_SAMPLE = 200;

/**
 * @typedef {import("../follow/state.js").Job} Job
 * @typedef {import("../follow/state.js").RoomState} RoomState
 *
 * @typedef {object} Server what the views show of the connection
 * @property {() => number} now seconds, by the server's clock
 * @property {() => boolean} live
 * @property {(room: string) => import("../follow/connection.js").CommandError | null} refusalOf
 * @property {() => string} notice what is wrong, as a sentence; "" for nothing
 *
 * @typedef {object} Views
 * @property {import("../views/board.js").Board} board
 * @property {import("../views/ended.js").Ended} ended
 * @property {import("../views/timeline.js").Timeline} timeline
 * @property {import("../views/charts.js").Charts} charts
 * @property {import("../views/detail.js").Detail} detail
 * @property {import("../views/kills.js").Kills} kills
 * @property {import("../views/room-tabs.js").RoomTabs} tabs
 * @property {import("../views/toolbar.js").Toolbar} toolbar
 * @property {import("../views/status-line.js").StatusLine} statusLine
 *
 * @typedef {object} Parts
 * @property {import("./navigation.js").Navigation} navigation
 * @property {import("./open-rooms.js").OpenRooms} rooms
 * @property {import("./charts-feed.js").ChartsFeed} feed
 * @property {Views} views
 * @property {Server} server
 */

export class Renderer {
  #parts;
  #timer = new FrameTimer(() => this.#frame());
  #still = matchMedia("(prefers-reduced-motion: reduce)");
  #changed = true; // since the last draw
  #drawAfter = 0; // no draw before that, by performance.now(): drawing must leave time for the rest
  #secondAt = 0; // when what is done once a second was done last
  #events = 0; // since the last sample of the charts

  /** @param {Parts} parts */
  constructor(parts) {
    this.#parts = parts;
    // No frames come while the page is hidden, but its title still counts the jobs.
    setInterval(() => document.hidden && this.#changed && this.#drawTitle(), HIDDEN_TITLE_MS);
  }

  changed() {
    this.#changed = true;
    this.#timer.schedule(0);
  }

  /** The same for an event: after many of them the charts are sampled before the second is over. */
  heard() {
    this.changed();
    this.#events += 1;
    if (this.#events >= EVENTS_A_SAMPLE) this.#sample();
  }

  get #view() {
    return this.#parts.navigation.view;
  }

  /** Returns the seconds until something will look different by itself. */
  #frame() {
    const begun = performance.now();
    const now = this.#parts.server.now();
    if (this.#changed && begun >= this.#drawAfter) {
      this.#changed = false;
      this.#draw();
      // Many jobs take longer to draw; the page stays quick by drawing them less often.
      this.#drawAfter = performance.now() + 2 * (performance.now() - begun);
    }
    const wait = this.#tick(now);
    if (begun - this.#secondAt >= 1000) this.#eachSecond(begun);
    return Math.min(wait, (this.#secondAt + 1000 - begun) / 1000, this.#changed ? 0.001 : Infinity);
  }

  /** @param {number} now */
  #tick(now) {
    const { board, detail, statusLine, timeline } = this.#parts.views;
    const waits = [detail.tick(now), statusLine.tick()];
    if (this.#view.view === "running") waits.push(board.tick(now, this.#still.matches));
    if (this.#view.view === "timeline") waits.push(timeline.tick(now));
    return Math.min(...waits);
  }

  #draw() {
    const { rooms, server, views } = this.#parts;
    const view = this.#view;
    const shown = rooms.shown(view.only);
    const running = shown.flatMap((state) => state.running());
    const known = shown.some((state) => state.known);
    const filtered = view.search !== "" || view.by !== "" || view.state !== "";
    const look = { view, several: shown.length > 1, filtered, known };
    views.kills.keep((run) => rooms.find(run)?.state === "running");
    views.tabs.draw(rooms.all(), { only: view.only, refusalOf: server.refusalOf });
    if (view.view === "running") views.board.draw(running, { ...look, total: running.length });
    views.ended.draw(shown, { ...look, shown: view.view === "ended" });
    if (view.view === "timeline") this.#drawTimeline(shown, running);
    views.detail.draw();
    views.toolbar.showNumber(known ? running.length.toLocaleString("en") : "");
    views.statusLine.showPresence(shown.map((state) => state.presence));
    views.statusLine.notice(server.notice());
    showEmptiness({ running, known, filtered });
  }

  /**
   * @param {RoomState[]} shown
   * @param {Job[]} running
   */
  #drawTimeline(shown, running) {
    const view = this.#view;
    const jobs = [...running, ...shown.flatMap((state) => state.ended())].filter(matcher(view));
    this.#parts.views.timeline.show(jobs, view);
  }

  /** @param {number} begun */
  #eachSecond(begun) {
    const { feed, rooms, views } = this.#parts;
    const view = this.#view;
    this.#secondAt = begun;
    this.#drawTitle();
    this.#sample();
    views.charts.draw(feed.series(view.only));
    const jobs = rooms.shown(view.only).map((state) => (view.view === "ended" ? state.ended() : state.running()));
    views.toolbar.offer(jobs.flat(), view);
  }

  #sample() {
    this.#events = 0;
    if (this.#parts.server.live()) this.#parts.feed.sample();
  }

  #drawTitle() {
    const shown = this.#parts.rooms.shown(this.#view.only);
    const running = shown.reduce((sum, state) => sum + state.size, 0);
    const title = `${running ? `(${running}) ` : ""}Hourglass · ${shown.map(({ room }) => room).join(", ")}`;
    if (document.title !== title) document.title = title;
  }
}

/** @param {{ running: Job[], known: boolean, filtered: boolean }} shown */
function showEmptiness({ running, known, filtered }) {
  const empty = byId("running").hidden;
  const coming = ["connecting", "catching-up"].includes(document.body.dataset.line ?? "");
  byId("running-waiting").hidden = known || !coming;
  byId("running-empty").hidden = !known || running.length > 0;
  byId("running-none").hidden = !known || running.length === 0 || !empty;
  if (filtered) byId("running-none-text").textContent = `${count(running.length, "job")} in all.`;
}
