/**
 * Where the reader is: the view that the address asks for, and the ways from one to another.
 *
 *   const navigation = new Navigation({ shown, opened, closed });
 *   navigation.start();                                   // shows what the address says
 *   navigation.go({ view: "ended" }, { push: true });     // the address follows
 *   navigation.openJob(job); navigation.closeJob();
 *
 * `shown(view, before)` is called for each view, also when the reader goes back. `opened()` comes after
 * a job was opened, and `closed(run)` after it was closed, with the run whose row had the focus before.
 */

import { read, write } from "../models/address.js";

/**
 * @typedef {import("../models/address.js").View} View
 *
 * @typedef {object} Listener
 * @property {(view: View, before: View) => void} shown
 * @property {() => void} opened
 * @property {(run: string) => void} closed
 */

export class Navigation {
  view = read(location.search);
  #listener;
  /** @type {string | null} */
  #returnTo = null; // the run whose row had the focus before a job was opened

  /** @param {Listener} listener */
  constructor(listener) {
    this.#listener = listener;
    addEventListener("popstate", () => this.#show(read(location.search)));
  }

  start() {
    this.#show(this.view);
  }

  /**
   * Show another view, and have the address say so; `push` leaves a way back.
   *
   * @param {Partial<View>} part
   */
  go(part, { push = false } = {}) {
    const next = { ...this.view, ...part, wrong: [] };
    const address = location.pathname + write(next);
    if (push) history.pushState(null, "", address);
    else history.replaceState(null, "", address);
    this.#show(next);
  }

  /** @param {string} room */
  openRoom(room) {
    this.go({ rooms: this.#with(room), only: room }, { push: true });
  }

  /** @param {string} room */
  closeRoom(room) {
    const { view } = this;
    const rooms = view.rooms.filter((other) => other !== room);
    const only = rooms.length > 1 && view.only !== room ? view.only : "";
    const job = view.in === room ? { job: "", run: "", in: "" } : {};
    this.go({ rooms, only, ...job }, { push: true });
  }

  /** @param {{ room: string, connid: string, run: string }} job */
  openJob({ room, connid, run }) {
    const row = document.activeElement?.closest("[data-run]");
    if (row instanceof HTMLElement) this.#returnTo = row.dataset.run ?? null;
    this.go({ rooms: this.#with(room), job: connid, run, in: room }, { push: true });
    this.#listener.opened();
  }

  closeJob() {
    this.go({ job: "", run: "", in: "" }, { push: true });
    if (this.#returnTo) this.#listener.closed(this.#returnTo);
    this.#returnTo = null;
  }

  /** @param {string} room */
  #with(room) {
    return [...new Set([...this.view.rooms, room])];
  }

  /** @param {View} next */
  #show(next) {
    const before = this.view;
    this.view = next;
    this.#listener.shown(next, before);
  }
}
