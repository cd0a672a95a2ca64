/**
 * How the page says things: time left, instants, endings, who is watching.
 *
 * Pure functions from protocol values to text; they know neither the DOM nor the state.
 *
 *   timeLeft(65)    -> "1:05"
 *   timeLeft(7380)  -> "2h 03m"
 *   ending(job)     -> { tone: "killed", label: "Killed", by: "by ben", facts: ["ran 0:12 of 5:00"] }
 */

import { typedSeconds } from "../job/seconds.js";

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** @import { AnyJob } from "../follow/state.js" */

/** @param {number} number */
const pad = (number) => String(number).padStart(2, "0");

/**
 * A duration as a clock reads it; anything that is not a number becomes a dash.
 *
 * @param {number} seconds
 */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)}:${pad(whole % MINUTE)}`;
  if (whole < DAY) return `${Math.floor(whole / HOUR)}h ${pad(Math.floor((whole % HOUR) / MINUTE))}m`;
  return `${Math.floor(whole / DAY)}d ${pad(Math.floor((whole % DAY) / HOUR))}h`;
}

/**
 * Time left, rounded up: "0:01" until the very end, "0:00" only when nothing is left.
 *
 * @param {number} seconds
 */
export function timeLeft(seconds) {
  // The small step back keeps 60.0000001, a rounding error, from reading as 61 seconds.
  return duration(Math.ceil(seconds - 1e-3));
}

/**
 * What a typed time amounts to ("90" -> "= 1:30"), or "" where there is nothing to add.
 *
 * @param {string} text
 */
export function typedTime(text) {
  const seconds = typedSeconds(text);
  return seconds !== null && seconds >= MINUTE && Number.isFinite(seconds) ? `= ${duration(seconds)}` : "";
}

/**
 * An instant in the reader's own time zone: the time, and the day too when it was not today.
 *
 * @param {number} at seconds
 * @param {number} [now] seconds
 * @param {string} [locale]
 */
export function instant(at, now = Date.now() / 1000, locale) {
  if (!Number.isFinite(at)) return "";
  const date = new Date(at * 1000);
  const { time, day } = formats(locale);
  if (date.toDateString() === new Date(now * 1000).toDateString()) return time.format(date);
  return `${day.format(date)}, ${time.format(date)}`;
}

/** @typedef {{ time: Intl.DateTimeFormat, day: Intl.DateTimeFormat }} Formats */

/** @type {Map<string | undefined, Formats>} */
const cached = new Map(); // by locale, as they are slow to make

/** @param {string} [locale] */
function formats(locale) {
  const known = cached.get(locale);
  if (known) return known;
  const made = {
    time: new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }),
    day: new Intl.DateTimeFormat(locale, { day: "numeric", month: "short" }),
  };
  cached.set(locale, made);
  return made;
}

/** @param {string | null | undefined} name */
export const who = (name) => name || "someone";

/**
 * Who started a job.
 *
 * @param {AnyJob} job
 */
export const starter = (job) => job.started_by ?? job.by;

/**
 * A number of things: "1 job", "1,200 jobs".
 *
 * @param {number} number
 * @param {string} one
 * @param {string} [many]
 */
export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

const KILLS = new Map([
  ["yes", "A kill stops its work."],
  ["cooperative", "A kill asks it to stop: its work goes on until it looks."],
  ["no", "A kill cannot stop its work, which goes on to its end."],
]);

/**
 * What a kill does to the work of a job, or "" where its owner does not say.
 *
 * @param {AnyJob} job
 */
export const whatKillDoes = (job) => KILLS.get(job.stoppable ?? "") ?? "";

const OUTCOMES = new Map([
  ["elapsed", "Time ran out"],
  ["done", "Done"],
  ["failed", "Failed"],
  ["lost", "Lost"],
]);

/**
 * How an ended job ended: `tone` (a word for the style sheet), `label`, `by` (for a killed one) and
 * `facts`, short phrases in the order in which they are read.
 *
 * @param {AnyJob} job
 */
export function ending(job) {
  const killed = job.state === "killed";
  const facts = [`started by ${who(starter(job))}`];
  // Of a job whose start was missed only its end is known.
  if (Number.isFinite(job.started_at)) facts.push(`ran ${ran(job)} of ${duration(job.time)}`);
  if (job.outcome === "lost") facts.push("its owner stopped renewing its lease");
  if (Number.isFinite(job.amended_at)) facts.push("lost until its owner told");
  if (job.late) facts.push("recorded late");
  if (Number.isFinite(job.stopped_at)) {
    facts.push(job.exit == null ? "work has stopped" : `work has stopped, exit ${job.exit}`);
  }
  if (killed) return { tone: "killed", label: "Killed", by: killer(job), facts };
  const outcome = job.outcome ?? "";
  const label = OUTCOMES.get(outcome) ?? "Finished";
  return { tone: OUTCOMES.has(outcome) ? outcome : "elapsed", label, by: "", facts };
}

/**
 * How long an ended job ran; a dash where that is not known.
 *
 * @param {AnyJob} job
 */
export const ran = ({ started_at, ended_at = NaN }) => duration(ended_at - started_at);

/**
 * That the work of an ended job has stopped: "exit 143", "stopped"; "" while its owner has not said so.
 *
 * @param {AnyJob} job
 */
export function stopped({ stopped_at, exit }) {
  if (!Number.isFinite(stopped_at)) return "";
  return exit == null ? "stopped" : `exit ${exit}`;
}

/** @param {AnyJob} job */
function killer({ by, via }) {
  if (via === "server") return by ? `by ${by} (server)` : "by the server";
  const means = via && via !== "socket" ? ` via ${via}` : "";
  return `by ${who(by)}${means}`;
}

/** @typedef {{ run: string, seq: number, at: number, by: string, time: number }} Move an event `extended` */

/**
 * What has happened to a job, in order; the text is what users wrote.
 *
 * @param {AnyJob} job
 * @param {Move[]} [moves] of its deadline
 */
export function life(job, moves = []) {
  /** @type {{ at: number | undefined, what: string, text: string }[]} */
  const steps = [{ at: job.started_at, what: `Started by ${who(starter(job))}${timeAtStart(job, moves)}`, text: job.note ?? "" }];
  for (const { at, by, time } of moves) {
    steps.push({ at, what: `More time from ${who(by)}: ${duration(time)} in all`, text: "" });
  }
  const { progress } = job;
  if (progress) {
    const share = isNumber(progress.done) ? `: ${Math.round(progress.done * 100)}%` : "";
    steps.push({ at: progress.at, what: `Last report${share}`, text: progress.note ?? "" });
    steps.sort((a, b) => (a.at ?? Infinity) - (b.at ?? Infinity));
  }
  if (job.state === "running") return steps;
  const { label, by } = ending(job);
  const text = job.reason ?? resultText(job.result);
  const late = job.late ? ", recorded late" : "";
  const amended = isNumber(job.amended_at);
  if (amended) steps.push({ at: job.ended_at, what: `Lost${late}`, text: "" });
  else steps.push({ at: job.ended_at, what: `${label} ${by}`.trim() + late, text });
  if (isNumber(job.stopped_at)) {
    const exit = job.exit == null ? "" : `, exit ${job.exit}`;
    steps.push({ at: job.stopped_at, what: `Its owner says that the work has stopped${exit}`, text: "" });
  }
  if (amended) steps.push({ at: job.amended_at, what: `Its owner tells how it ended: ${label}`, text });
  return steps;
}

/**
 * The time that a job was started with, which it still has where its deadline was not moved.
 *
 * @param {AnyJob} job
 * @param {Move[]} moves
 */
const timeAtStart = ({ time }, moves) => (moves.length === 0 ? ` for ${duration(time)}` : "");

/**
 * The result that an owner handed in, on one line; "" where there is none.
 *
 * @param {unknown} result
 */
export function resultText(result) {
  if (result === null || result === undefined) return "";
  return typeof result === "string" ? result : JSON.stringify(result);
}

/**
 * Who is watching: `{ count: "3 watching", names: "ana, ben" }`; people without a name only count.
 *
 * @param {{ watching: number, names?: string[] } | null} presence
 */
export function watchers(presence) {
  if (!presence) return { count: "", names: "" };
  const names = [...new Set((presence.names ?? []).filter(Boolean))];
  return { count: `${presence.watching} watching`, names: names.join(", ") };
}

/**
 * @param {unknown} value
 * @returns {value is number}
 */
export const isNumber = (value) => Number.isFinite(value);
