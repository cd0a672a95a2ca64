/** What a program says of a job, with what is so unless it says otherwise. */

import { secondsOf } from "./seconds.js";

/** Seconds without a word after which a job is lost: its machine is gone, or cut off. */
const LEASE = 30;
/** In a page, as browsers let timers of hidden ones fire once a minute. */
const PAGE_LEASE = 180;
/** Characters of a note that every server takes. */
const MOST_NOTE = 500;

/**
 * @import { Killed } from "./killed.js"
 * @import { Plan } from "./kept-job.js"
 * @import { Settings } from "./socket.js"
 *
 * @typedef {object} Options
 * @property {number | string} time how long the work may take: seconds, or a text such as 90, 10m or 1h30m
 * @property {string} [note] what everyone sees beside the name
 * @property {AbortSignal} [signal] the program's own way to stop the work
 * @property {(killed: Killed) => void} [onKill] called when it is killed, or its time is over
 * @property {"number" | "replace"} [ifRunning] what happens while another job has the name: this one gets a
 *   number, or the other one is killed
 * @property {number | string | null} [lease] after how long without a word the job is lost; null for never
 * @property {string} [url] the address of the server
 * @property {string | (() => string)} [token] or what gives the one of now
 * @property {string} [room]
 * @property {string} [by] who starts it, where no token says so
 * @property {(message: string) => void} [onProblem] called when the job cannot be shown; the work goes on
 */

/** @type {Record<string, string | undefined>} */
const environ = /** @type {any} */ (globalThis).process?.env ?? {};
const inPage = !(/** @type {any} */ (globalThis).process?.versions?.node);

/**
 * The plan of a job; throws a TypeError or a RangeError for what can never be one.
 *
 * @param {string} name
 * @param {Options} options
 * @returns {Plan}
 */
export function planOf(name, { time, lease = inPage ? PAGE_LEASE : LEASE, note, ifRunning = "number" }) {
  if (typeof name !== "string") throw new TypeError("the name of a job is a text");
  const limit = secondsOf(time, "time");
  if (limit === 0) throw new RangeError("time must be above 0");
  return {
    name,
    time: limit,
    sentAt: Date.now(),
    lease: (lease !== null && secondsOf(lease, "lease")) || null,
    note: note === undefined ? null : String(note).slice(0, MOST_NOTE),
    replace: ifRunning === "replace",
  };
}

/**
 * Where the server is, and who asks.
 *
 * @param {Options} options
 * @returns {Settings}
 */
export function settingsOf({ url, token, room, by }) {
  return {
    url: url ?? environ.HOURGLASS_URL ?? (inPage ? location.origin : "http://127.0.0.1:8000"),
    token: (typeof token === "function" ? asked(token) : token) ?? environ.HOURGLASS_TOKEN,
    room: room ?? environ.HOURGLASS_ROOM ?? "main",
    by: by ?? environ.HOURGLASS_BY,
  };
}

/** @param {() => string} token */
function asked(token) {
  try {
    return token();
  } catch {
    return undefined; // The server says then that there is none.
  }
}
