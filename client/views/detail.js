/**
 * The whole life of one job, beside the lists.
 *
 *   const detail = new Detail({ command, close, open, kill, again, watches, find });
 *   await detail.show({ room, connid, run });    // run "" is the running or the last one
 *   detail.draw();                               // after events
 *   detail.tick(serverNow)
 *   detail.hear(event)                           // of the kind `output`
 *   detail.learn(event)                          // of the kind `extended`
 *
 * `find(room, connid, run)` is the job where the page knows it. Earlier runs come from the history.
 */

import { byId, make, setText, textOrHide, within } from "../browser/dom.js";
import { earlierLine } from "./ended.js";
import { MoreTime } from "./more-time.js";
import { linkOf } from "../models/address.js";
import { forecastText } from "../models/forecast.js";
import { Output } from "../models/output.js";
import { showInstant } from "./rows.js";
import { duration, ending, instant, life, ran, resultText, starter, timeLeft, whatKillDoes, who } from "../models/format.js";

const EARLIER = 20;

/**
 * @import { AnyJob, EndedJob, Job } from "../follow/state.js"
 *
 * @typedef {object} Actions
 * @property {import("../follow/connection.js").Command} command
 * @property {() => void} close
 * @property {(job: Job | EndedJob) => void} open
 * @property {(jobs: (Job | EndedJob)[]) => void} kill
 * @property {(job: Job | EndedJob) => void} again
 * @property {import("./notify.js").Watches} watches
 * @property {(room: string, connid: string, run: string) => Job | EndedJob | undefined} find
 *
 * @typedef {{ room: string, connid: string, run: string }} Wanted a job as it was asked for
 *
 * @typedef {import("../models/format.js").Move} Move
 *
 * @typedef {{ run: string, offset: number, text: string }} OutputEvent
 */

export class Detail {
  #actions;
  #panel = byId("detail");
  /** @type {Wanted | null} */
  #wanted = null;
  #run = ""; // the one that is shown, from when it is known
  /** @type {Job | EndedJob | null} */
  #job = null; // as it was last shown
  /** @type {EndedJob[]} */
  #history = [];
  #asked = 0;
  /** @type {{ room: string, connid: string } | null} */
  #watched = null; // whose output we are sent
  /** @type {Output | null} */
  #output = null;
  /** @type {OutputEvent[]} */
  #early = []; // output that came before the answer that it continues
  /** @type {Map<number, Move>} */
  #moves = new Map(); // by seq: who has given the job more time
  #moreTime;

  /** @param {Actions} actions */
  constructor(actions) {
    this.#actions = actions;
    this.#moreTime = new MoreTime(this.#panel, {
      command: actions.command,
      job: () => this.job,
      tell: (text) => this.#tell(text),
    });
    this.#on(".close", actions.close);
    this.#on(".kill-it", () => this.#job && actions.kill([this.#job]));
    this.#on(".again", () => this.#job && actions.again(this.#job));
    this.#on(".tell-me", () => this.#toggleWatch());
    this.#on(".copy-link", () => this.#copyLink());
  }

  get job() {
    return this.#panel.hidden ? null : this.#job;
  }

  get focused() {
    return this.#panel.contains(document.activeElement);
  }

  /** @param {Wanted} wanted */
  async show(wanted) {
    const { room, connid, run } = this.#wanted ?? {};
    const same = room === wanted.room && connid === wanted.connid && run === wanted.run;
    if (same && !this.#panel.hidden) return;
    this.#leave();
    this.#wanted = wanted;
    this.#run = wanted.run;
    this.#job = null;
    this.#history = [];
    this.#panel.hidden = false;
    setText(byId("detail-title"), wanted.connid);
    setText(within(this.#panel, ".told"), "");
    this.draw();
    await this.reload();
  }

  hide() {
    this.#leave();
    this.#clear();
    this.#tell("");
    setText(byId("detail-title"), "");
    this.#panel.hidden = true;
    this.#wanted = null;
    this.#job = null;
    this.#history = [];
    this.#asked += 1;
  }

  takeFocus() {
    byId("detail-title").focus({ preventScroll: true });
  }

  /** @param {OutputEvent} event */
  hear(event) {
    if (event.run !== this.#run) return;
    if (this.#output === null) this.#early.push(event);
    else if (this.#output.take(event)) this.#showOutput();
  }

  /** @param {Move} move */
  learn(move) {
    if (move.run !== this.#run) return;
    this.#moves.set(move.seq, move);
    if (this.#job) this.#showLife(this.#job);
  }

  /** Ask for earlier runs and the output: when it is opened, and after a reconnect. */
  async reload() {
    if (!this.#wanted) return;
    const asked = ++this.#asked;
    const { room, connid } = this.#wanted;
    try {
      const { jobs = [] } = await this.#actions.command("history", { room, connid, limit: EARLIER });
      if (asked !== this.#asked) return;
      this.#tell("");
      this.#history = /** @type {EndedJob[]} */ (jobs);
      this.#job = null;
      this.draw();
      if (this.job) await this.#watch(room, connid);
      else this.#showUnknown();
    } catch (/** @type {any} */ error) {
      if (asked === this.#asked && !this.#job) this.#tell(error.message);
    }
  }

  draw() {
    if (!this.#wanted) return;
    const { room, connid } = this.#wanted;
    const run = this.#run;
    const job = this.#actions.find(room, connid, run) ?? this.#history.find((past) => !run || past.run === run);
    this.#setActions(job ?? null);
    if (!job || job === this.#job) return;
    // The page was opened by name alone: from now on it is about this run.
    this.#run = job.run;
    this.#job = job;
    this.#panel.dataset.run = job.run;
    this.#panel.dataset.tone = job.state === "running" ? "running" : ending(job).tone;
    this.#showState(job);
    this.#showFacts(job);
    this.#showLife(job);
    this.#showEarlier(job);
  }

  /**
   * Show the time that passes; returns the seconds until the next difference.
   *
   * @param {number} serverNow
   */
  tick(serverNow) {
    const job = this.#job;
    if (!job || job.state !== "running" || this.#panel.hidden) return Infinity;
    const left = job.deadline - serverNow;
    setText(within(this.#panel, ".state"), `${timeLeft(left)} left`);
    const share = Math.min(1, Math.max(0, left / job.time));
    within(this.#panel, ".fill").style.transform = `translateX(${(share - 1) * 100}%)`;
    return left % 1 || 1;
  }

  /**
   * Show the end of what the job has printed, and from now on what it prints.
   *
   * @param {string} room
   * @param {string} connid
   */
  async #watch(room, connid) {
    this.#watched = { room, connid };
    this.#output = null;
    this.#early = [];
    const { job, output, events = [] } = await this.#actions.command("join", { room, connid });
    if (this.#watched?.connid !== connid || job?.run !== this.#run) return;
    const moves = /** @type {Move[]} */ (/** @type {unknown} */ (events.filter(({ event }) => event === "extended")));
    for (const move of moves) this.learn(move);
    const shown = new Output(output);
    for (const event of this.#early.splice(0)) shown.take(event);
    this.#output = shown;
    this.#showOutput();
  }

  #leave() {
    const watched = this.#watched;
    this.#watched = null;
    this.#output = null;
    this.#early = [];
    this.#moves.clear();
    this.#showOutput();
    if (watched) this.#actions.command("leave", watched).catch(() => {});
  }

  #showOutput() {
    const text = this.#output?.text ?? "";
    const place = this.#part("output");
    const atEnd = place.scrollTop + place.clientHeight >= place.scrollHeight - 8;
    this.#part("output-title").hidden = text === "";
    textOrHide(place, text);
    if (atEnd) place.scrollTop = place.scrollHeight;
  }

  /** @param {Job | EndedJob} job */
  #showState(job) {
    const ended = job.state !== "running";
    within(this.#panel, ".bar").hidden = ended;
    if (!ended) return;
    const { label, by } = ending(job);
    setText(within(this.#panel, ".state"), `${label} ${by}`.trim());
  }

  /** @param {AnyJob} job */
  #showFacts(job) {
    const facts = [
      ["Room", job.room],
      ["Started by", who(starter(job))],
      ["Time", duration(job.time)],
      ["Deadline", instant(job.deadline)],
      ["Forecast", forecastText(job)],
      ["Note", job.note],
      ["Reason", job.reason],
      ["Result", resultText(job.result)],
      ["Lease", job.lease == null ? "" : duration(job.lease)],
      ["Kill", whatKillDoes(job)],
      ["Ran", job.state === "running" ? "" : ran(job)],
      ["Run", job.run],
    ];
    const shown = facts.flatMap(([name, value]) =>
      name && value ? [make("dt", name), make("dd", value, { dir: "auto" })] : [],
    );
    within(this.#panel, ".facts").replaceChildren(...shown);
  }

  /** @param {Job | EndedJob} job */
  #showLife(job) {
    const steps = life(job, [...this.#moves.values()]).map(({ at, what, text }) => {
      const item = make("li");
      const when = make("time");
      showInstant(when, at);
      item.append(when, make("p", what, { dir: "auto" }));
      if (text) item.append(make("p", text, { className: "text", dir: "auto" }));
      return item;
    });
    within(this.#panel, ".life").replaceChildren(...steps);
  }

  /** @param {Job | EndedJob} job */
  #showEarlier(job) {
    const others = this.#history.filter(({ run }) => run !== job.run);
    const list = within(this.#panel, ".earlier");
    list.replaceChildren(...others.map((past) => earlierLine(past, this.#actions.open)));
    within(this.#panel, ".earlier-title").hidden = others.length === 0;
  }

  /** @param {Job | EndedJob | null} job */
  #setActions(job) {
    const running = job?.state === "running";
    this.#part("kill-it").hidden = !running;
    this.#moreTime.show(job);
    this.#part("tell-me").hidden = !running;
    this.#part("again").hidden = !job || running;
    this.#part("tell-me").setAttribute("aria-pressed", String(running && this.#actions.watches.has(job.run)));
  }

  #showUnknown() {
    this.#clear();
    this.#tell(`No job of this name and run is known in the room ${this.#wanted?.room}: only the last ones are kept.`);
  }

  #clear() {
    for (const place of [".facts", ".life", ".earlier"]) within(this.#panel, place).replaceChildren();
    within(this.#panel, ".earlier-title").hidden = true;
    within(this.#panel, ".bar").hidden = true;
    setText(within(this.#panel, ".state"), "");
  }

  async #toggleWatch() {
    if (!this.#job) return;
    this.#tell(await this.#actions.watches.toggle(this.#job));
    this.draw();
  }

  async #copyLink() {
    const job = this.#job ?? this.#wanted;
    if (!job) return;
    const link = new URL(linkOf(job), location.href).href;
    try {
      await navigator.clipboard.writeText(link);
      this.#tell("The link is copied.");
    } catch {
      this.#tell(link);
    }
  }

  /** @param {string} text */
  #tell(text) {
    setText(within(this.#panel, ".told"), text);
  }

  /** @param {string} name */
  #part(name) {
    return within(this.#panel, `.${name}`);
  }

  /**
   * @param {string} selector
   * @param {() => void} act
   */
  #on(selector, act) {
    within(this.#panel, selector).addEventListener("click", () => act());
  }
}
