/**
 * How the page says things: time left, instants, endings, who is watching.
 *
 * Pure functions from protocol values to text; they know neither the DOM nor the state.
 *
 *   timeLeft(65)    -> "1:05"
 *   timeLeft(7380)  -> "2h 03m"
 *   ending(job)     -> { tone: "killed", label: "Killed", by: "by ben", facts: ["ran 0:12 of 5:00"] }
 */

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const pad = (number) => String(number).padStart(2, "0");

/** A duration in seconds as a clock reads it; anything that is not a number becomes a dash. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)}:${pad(whole % MINUTE)}`;
  if (whole < DAY) return `${Math.floor(whole / HOUR)}h ${pad(Math.floor((whole % HOUR) / MINUTE))}m`;
  return `${Math.floor(whole / DAY)}d ${pad(Math.floor((whole % DAY) / HOUR))}h`;
}

/** Time left, rounded up: "0:01" until the very end, "0:00" only when nothing is left. */
export function timeLeft(seconds) {
  // The small step back keeps 60.0000001, a rounding error, from reading as 61 seconds.
  return duration(Math.ceil(seconds - 1e-3));
}

const UNITS = { s: 1, m: MINUTE, h: HOUR, d: DAY };

/** The seconds that a typed time means: "90", "5m", "1h 30m", "2d"; null where it means nothing. */
export function typedSeconds(text) {
  const typed = text.trim().toLowerCase();
  if (/^(\d+(\.\d+)?|\.\d+)$/.test(typed)) return Number(typed);
  if (!/^(\d+(\.\d+)?\s*[smhd]\s*)+$/.test(typed)) return null;
  const units = [...typed.replaceAll(/[\d.\s]/g, "")];
  const numbers = typed.split(/[smhd]/);
  return units.reduce((sum, unit, index) => sum + Number(numbers[index]) * UNITS[unit], 0);
}

/** What a typed time amounts to ("90" -> "= 1:30"), or "" where there is nothing to add. */
export function typedTime(text) {
  const seconds = typedSeconds(text);
  return seconds !== null && seconds >= MINUTE && Number.isFinite(seconds) ? `= ${duration(seconds)}` : "";
}

/** An instant in the reader's own time zone: the time, and the day too when it was not today. */
export function instant(at, now = Date.now() / 1000, locale = undefined) {
  if (!Number.isFinite(at)) return "";
  const date = new Date(at * 1000);
  const { time, day } = formats(locale);
  if (date.toDateString() === new Date(now * 1000).toDateString()) return time.format(date);
  return `${day.format(date)}, ${time.format(date)}`;
}

const made = new Map(); // locale -> its formats, which are slow to make

function formats(locale) {
  if (!made.has(locale)) {
    const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
    const time = new Intl.DateTimeFormat(locale, clock);
    const day = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short" });
    made.set(locale, { time, day });
  }
  return made.get(locale);
}

export const who = (name) => name || "someone";

/** A number of things: "1 job", "1,200 jobs". */
export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

const OUTCOMES = new Map([
  ["elapsed", "Time ran out"],
  ["done", "Done"],
  ["failed", "Failed"],
  ["lost", "Lost"],
]);

/**
 * How an ended job ended: `tone` (a word for the style sheet), `label`, `by` (for a killed one) and
 * `facts`, short phrases in the order in which they are read.
 */
export function ending(job) {
  const killed = job.state === "killed";
  const facts = [`started by ${who(job.started_by ?? job.by)}`];
  if (Number.isFinite(job.started_at)) {
    facts.push(`ran ${duration(job.ended_at - job.started_at)} of ${duration(job.time)}`);
  }
  if (job.outcome === "lost") facts.push("its owner stopped renewing its lease");
  if (job.late) facts.push("recorded late");
  if (Number.isFinite(job.stopped_at)) {
    facts.push(job.exit == null ? "work has stopped" : `work has stopped, exit ${job.exit}`);
  }
  if (killed) return { tone: "killed", label: "Killed", by: killer(job), facts };
  const label = OUTCOMES.get(job.outcome) ?? "Finished";
  return { tone: OUTCOMES.has(job.outcome) ? job.outcome : "elapsed", label, by: "", facts };
}

/** That the work of a killed job has stopped: "exit 143", "stopped"; "" while its owner has not said so. */
export function stopped({ stopped_at, exit }) {
  if (!Number.isFinite(stopped_at)) return "";
  return exit == null ? "stopped" : `exit ${exit}`;
}

function killer({ by, via }) {
  if (via === "server") return by ? `by ${by} (server)` : "by the server";
  const means = via && via !== "socket" ? ` via ${via}` : "";
  return `by ${who(by)}${means}`;
}

/** What has happened to a job, in order: `{ at, what, text }`, the text being what users wrote. */
export function life(job) {
  const starter = who(job.started_by ?? job.by);
  const steps = [{ at: job.started_at, what: `Started by ${starter} for ${duration(job.time)}`, text: job.note ?? "" }];
  const { progress } = job;
  if (progress) {
    const share = Number.isFinite(progress.done) ? `: ${Math.round(progress.done * 100)}%` : "";
    steps.push({ at: progress.at, what: `Last report${share}`, text: progress.note ?? "" });
  }
  if (job.state === "running") return steps;
  const { label, by } = ending(job);
  const text = job.reason ?? resultText(job.result);
  steps.push({ at: job.ended_at, what: `${label} ${by}`.trim() + (job.late ? ", recorded late" : ""), text });
  if (Number.isFinite(job.stopped_at)) {
    const exit = job.exit == null ? "" : `, exit ${job.exit}`;
    steps.push({ at: job.stopped_at, what: `Its owner says that the work has stopped${exit}`, text: "" });
  }
  return steps;
}

/** The result that an owner handed in, on one line; "" where there is none. */
export function resultText(result) {
  if (result === null || result === undefined) return "";
  return typeof result === "string" ? result : JSON.stringify(result);
}

/** Who is watching: `{ count: "3 watching", names: "ana, ben" }`; people without a name only count. */
export function watchers(presence) {
  if (!presence) return { count: "", names: "" };
  const names = [...new Set((presence.names ?? []).filter(Boolean))];
  return { count: `${presence.watching} watching`, names: names.join(", ") };
}
