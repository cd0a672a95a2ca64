/**
 * The whole life of one job, beside the lists.
 *
 *   const detail = new Detail({ command, close, open, kill, again, linkOf, watches, find });
 *   await detail.show({ room, connid, run });    // run "" is the running or the last one
 *   detail.draw();                               // after events
 *   detail.tick(serverNow)
 *   detail.hear(event)                           // of the kind `output`
 *
 * `find(room, connid, run)` is the job where the page knows it. Earlier runs come from the history.
 */

import { byId, make, setText, textOrHide } from "../browser/dom.js";
import { earlierLine } from "./ended.js";
import { Output } from "../models/output.js";
import { showInstant } from "./rows.js";
import { duration, ending, instant, life, resultText, timeLeft, who } from "../models/format.js";

const EARLIER = 20;

export class Detail {
  #actions;
  #panel = byId("detail");
  #wanted = null; // { room, connid, run } as it was asked for
  #run = ""; // the one that is shown, from when it is known
  #job = null; // as it was last shown
  #history = [];
  #asked = 0;
  #watched = null; // { room, connid } whose output we hear
  #output = null;
  #early = []; // output that came before the answer which it goes on from

  constructor(actions) {
    this.#actions = actions;
    this.#on(".close", actions.close);
    this.#on(".kill-it", () => actions.kill([this.#job]));
    this.#on(".again", () => actions.again(this.#job));
    this.#on(".tell-me", () => this.#toggleWatch());
    this.#on(".copy-link", () => this.#copyLink());
  }

  get job() {
    return this.#panel.hidden ? null : this.#job;
  }

  get focused() {
    return this.#panel.contains(document.activeElement);
  }

  async show(wanted) {
    const same = ["room", "connid", "run"].every((key) => this.#wanted?.[key] === wanted[key]);
    if (same && !this.#panel.hidden) return;
    this.#leave();
    this.#wanted = wanted;
    this.#run = wanted.run;
    this.#job = null;
    this.#history = [];
    this.#panel.hidden = false;
    setText(byId("detail-title"), wanted.connid);
    setText(this.#panel.querySelector(".told"), "");
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

  hear(event) {
    if (event.run !== this.#run) return;
    if (this.#output === null) this.#early.push(event);
    else if (this.#output.take(event)) this.#showOutput();
  }

  /** Ask for earlier runs and the output: when it is opened, and when the line is back. */
  async reload() {
    if (!this.#wanted) return;
    const asked = ++this.#asked;
    const { room, connid } = this.#wanted;
    try {
      const { jobs } = await this.#actions.command("history", { room, connid, limit: EARLIER });
      if (asked !== this.#asked) return;
      this.#tell("");
      this.#history = jobs;
      this.#job = null;
      this.draw();
      if (this.#job) await this.#watch(room, connid);
      else this.#showUnknown();
    } catch (error) {
      if (asked === this.#asked && !this.#job) this.#tell(error.message);
    }
  }

  draw() {
    if (!this.#wanted) return;
    const { room, connid } = this.#wanted;
    const run = this.#run;
    const job = this.#actions.find(room, connid, run) ?? this.#history.find((past) => !run || past.run === run);
    if (!job) return this.#setActions(null);
    this.#setActions(job);
    if (job === this.#job) return;
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

  tick(serverNow) {
    const job = this.#job;
    if (!job || job.state !== "running" || this.#panel.hidden) return Infinity;
    const left = job.deadline - serverNow;
    setText(this.#panel.querySelector(".state"), `${timeLeft(left)} left`);
    const share = Math.min(1, Math.max(0, left / job.time));
    this.#panel.querySelector(".fill").style.transform = `translateX(${(share - 1) * 100}%)`;
    return left % 1 || 1;
  }

  /** Hear what the job prints from now on, and show the end of what it has printed. */
  async #watch(room, connid) {
    this.#watched = { room, connid };
    this.#output = null;
    this.#early = [];
    const { job, output } = await this.#actions.command("join", { room, connid });
    if (this.#watched?.connid !== connid || job?.run !== this.#run) return;
    this.#output = new Output(output);
    for (const event of this.#early.splice(0)) this.#output.take(event);
    this.#showOutput();
  }

  #leave() {
    const watched = this.#watched;
    this.#watched = null;
    this.#output = null;
    this.#early = [];
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

  #showState(job) {
    const ended = job.state !== "running";
    this.#panel.querySelector(".bar").hidden = ended;
    if (!ended) return;
    const { label, by } = ending(job);
    setText(this.#panel.querySelector(".state"), `${label} ${by}`.trim());
  }

  #showFacts(job) {
    const facts = [
      ["Room", job.room],
      ["Started by", who(job.started_by ?? job.by)],
      ["Time", duration(job.time)],
      ["Deadline", instant(job.deadline)],
      ["Note", job.note],
      ["Reason", job.reason],
      ["Result", resultText(job.result)],
      ["Lease", job.lease == null ? "" : duration(job.lease)],
      ["Ran", job.state === "running" ? "" : duration(job.ended_at - job.started_at)],
      ["Run", job.run],
    ].filter(([, value]) => value);
    const list = this.#panel.querySelector(".facts");
    list.replaceChildren(...facts.flatMap(([name, value]) => [make("dt", name), make("dd", value, { dir: "auto" })]));
  }

  #showLife(job) {
    const steps = life(job).map(({ at, what, text }) => {
      const item = make("li");
      const when = make("time");
      showInstant(when, at);
      item.append(when, make("p", what, { dir: "auto" }));
      if (text) item.append(make("p", text, { className: "text", dir: "auto" }));
      return item;
    });
    this.#panel.querySelector(".life").replaceChildren(...steps);
  }

  #showEarlier(job) {
    const { linkOf, open } = this.#actions;
    const others = this.#history.filter(({ run }) => run !== job.run);
    const list = this.#panel.querySelector(".earlier");
    list.replaceChildren(...others.map((past) => earlierLine(past, linkOf(past), open)));
    this.#panel.querySelector(".earlier-title").hidden = others.length === 0;
  }

  #setActions(job) {
    const running = job?.state === "running";
    this.#part("kill-it").hidden = !running;
    this.#part("tell-me").hidden = !running;
    this.#part("again").hidden = !job || running;
    this.#part("tell-me").setAttribute("aria-pressed", String(running && this.#actions.watches.has(job.run)));
  }

  #showUnknown() {
    this.#clear();
    this.#tell(`No job of this name and run is known in the room ${this.#wanted.room}. Old ones are forgotten after a while.`);
  }

  #clear() {
    for (const place of [".facts", ".life", ".earlier"]) this.#panel.querySelector(place).replaceChildren();
    this.#panel.querySelector(".earlier-title").hidden = true;
    this.#panel.querySelector(".bar").hidden = true;
    setText(this.#panel.querySelector(".state"), "");
  }

  async #toggleWatch() {
    this.#tell(await this.#actions.watches.toggle(this.#job));
    this.draw();
  }

  async #copyLink() {
    const link = new URL(this.#actions.linkOf(this.#job ?? this.#wanted), location.href).href;
    try {
      await navigator.clipboard.writeText(link);
      this.#tell("The link is copied.");
    } catch {
      this.#tell(link);
    }
  }

  #tell(text) {
    setText(this.#panel.querySelector(".told"), text);
  }

  #part(name) {
    return this.#panel.querySelector(`.${name}`);
  }

  #on(selector, act) {
    this.#panel.querySelector(selector).addEventListener("click", () => act());
  }
}
