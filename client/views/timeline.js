/**
 * A timeline: a bar for each job, from its start to its deadline or its end, in lanes; and now.
 *
 *   const timeline = new Timeline({ open });
 *   timeline.show(jobs, { span, several });      // span: minutes in sight, half of them to come
 *   timeline.tick(serverNow)                     // -> seconds until it will look different
 *
 * It is a picture: what it shows can be read and operated in the lists.
 */

import { byId, setText, within } from "../browser/dom.js";
import { layOut } from "../models/lanes.js";
import { colour } from "../browser/theme.js";
import { count, duration, ending, starter, timeLeft, who } from "../models/format.js";

const AXIS = 26;
const LANE = { most: 26, least: 5, gap: 3 };
/** Height in pixels of a bar that has room for a name. */
const NAME_FROM = 10;
/** How many times as long as a drawing took there is no other. */
const RESTS = 10;
const LONGEST_TICK = 21_600;
const TICKS = [10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, LONGEST_TICK];
/** @type {Record<string, string>} */
const COLOURS = {
  ...{ killed: "--red", failed: "--plum", done: "--green", lost: "--blue", elapsed: "--sand" },
  ...{ soft: "--sand-soft", ink: "--ink", muted: "--muted", line: "--line", red: "--red", onSand: "--on-sand" },
};

/**
 * @import { AnyJob } from "../follow/state.js"
 * @import { Bar } from "../models/lanes.js"
 *
 * @typedef {CanvasRenderingContext2D} Pen
 *
 * @typedef {object} Scene what is drawn, and where
 * @property {Bar[]} bars
 * @property {number} laneHeight
 * @property {number} from the first instant in sight
 * @property {number} width
 * @property {number} height
 * @property {(at: number) => number} toX
 */

export class Timeline {
  #open;
  #figure = byId("lanes");
  #canvas = within(this.#figure, "canvas", HTMLCanvasElement);
  #tip = within(this.#figure, ".tip");
  #caption = within(this.#figure, "figcaption");
  /** @type {AnyJob[]} */
  #jobs = [];
  #span = 600;
  /** @type {Scene | null} */
  #scene = null;
  #now = 0;
  /** @type {Record<string, string> | null} */
  #colours = null;
  #changed = true;
  #restUntil = 0; // drawing must leave time for the rest of the page
  /** @type {AnyJob | null} */
  #hovered = null;

  /** @param {{ open: (job: AnyJob) => void }} actions */
  constructor({ open }) {
    this.#open = open;
    const canvas = this.#canvas;
    canvas.addEventListener("pointermove", (move) => this.#hover(move));
    canvas.addEventListener("pointerleave", () => this.#hover(null));
    canvas.addEventListener("click", (click) => {
      const bar = this.#barAt(click);
      if (bar) this.#open(bar.job);
    });
    document.addEventListener("themechange", () => (this.#colours = null));
    new ResizeObserver(() => (this.#changed = true)).observe(this.#figure);
  }

  /**
   * @param {AnyJob[]} jobs
   * @param {{ span: string }} view
   */
  show(jobs, { span }) {
    this.#jobs = jobs;
    this.#span = Number(span) * 60;
    this.#changed = true;
  }

  /**
   * Draw what is due; returns the seconds until the next difference.
   *
   * @param {number} serverNow
   */
  tick(serverNow) {
    const width = this.#figure.clientWidth;
    if (width === 0) return Infinity;
    // No sooner than the bars would move by a pixel, unless there is something new.
    const step = this.#span / width;
    const begun = performance.now();
    const due = this.#changed || serverNow - this.#now >= step;
    if (!due || begun < this.#restUntil) return step;
    this.#changed = false;
    this.#now = serverNow;
    this.#draw(width);
    this.#restUntil = begun + RESTS * (performance.now() - begun);
    return step;
  }

  /** @param {number} width */
  #draw(width) {
    const height = this.#figure.clientHeight - this.#caption.offsetHeight;
    const pen = this.#clear(width, height);
    if (!pen) return;
    const from = this.#now - this.#span / 2;
    const toX = (/** @type {number} */ at) => ((at - from) / this.#span) * width;
    const most = Math.max(1, Math.floor((height - AXIS) / LANE.least));
    const gap = (2 * this.#span) / width;
    const laid = layOut(this.#jobs, { from, to: from + this.#span, gap, most });
    const laneHeight = Math.min(LANE.most, Math.max(LANE.least, (height - AXIS) / Math.max(1, laid.lanes)));
    const scene = { bars: laid.bars, laneHeight, from, width, height, toX };
    this.#scene = scene;
    this.#drawAxis(pen, scene);
    for (const bar of laid.bars) this.#drawBar(pen, bar, scene);
    this.#drawNow(pen, scene);
    this.#describe(laid);
  }

  /**
   * @param {number} width
   * @param {number} height
   */
  #clear(width, height) {
    const canvas = this.#canvas;
    const scale = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      canvas.style.height = `${height}px`;
    }
    const pen = canvas.getContext("2d");
    pen?.setTransform(scale, 0, 0, scale, 0, 0);
    pen?.clearRect(0, 0, width, height);
    return pen;
  }

  /**
   * @param {Pen} pen
   * @param {Scene} scene
   */
  #drawAxis(pen, { from, toX, width, height }) {
    const step = TICKS.find((tick) => (tick / this.#span) * width >= 74) ?? LONGEST_TICK;
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    pen.textAlign = "center";
    const zone = new Date(from * 1000).getTimezoneOffset() * 60;
    for (let at = Math.ceil((from - zone) / step) * step + zone; at < from + this.#span; at += step) {
      const x = Math.round(toX(at)) + 0.5;
      pen.strokeStyle = this.#ink("line");
      pen.beginPath();
      pen.moveTo(x, AXIS);
      pen.lineTo(x, height);
      pen.stroke();
      if (x < 24 || x > width - 24) continue;
      pen.fillStyle = this.#ink("muted");
      pen.fillText(timeOf(at, step < 60), x, AXIS / 2);
    }
  }

  /**
   * @param {Pen} pen
   * @param {Bar} bar
   * @param {Scene} scene
   */
  #drawBar(pen, { job, lane, start, end }, { laneHeight, toX, width }) {
    const top = AXIS + lane * laneHeight + LANE.gap / 2;
    const tall = Math.max(2, laneHeight - LANE.gap);
    const left = Math.max(-8, toX(start));
    const right = Math.min(width + 8, toX(end));
    const now = toX(Math.min(this.#now, end));
    const running = job.state === "running";
    pen.fillStyle = this.#ink(running ? "soft" : ending(job).tone);
    pen.globalAlpha = running ? 0.25 : 0.45;
    rounded(pen, left, top, Math.max(2, right - left), tall);
    if (running) {
      pen.globalAlpha = 1;
      rounded(pen, left, top, Math.max(2, now - left), tall);
    }
    pen.globalAlpha = 1;
    if (job === this.#hovered) {
      pen.strokeStyle = this.#ink("ink");
      pen.lineWidth = 1.5;
      pen.strokeRect(left, top, Math.max(2, right - left), tall);
      pen.lineWidth = 1;
    }
    if (tall >= NAME_FROM) this.#drawName(pen, { job, left: Math.max(4, left + 6), right, top, tall, now });
  }

  /**
   * @param {Pen} pen
   * @param {{ job: AnyJob, left: number, right: number, top: number, tall: number, now: number }} place
   */
  #drawName(pen, { job, left, right, top, tall, now }) {
    const room = Math.min(right, pen.canvas.clientWidth) - left - 4;
    if (room < 28) return;
    pen.font = `600 ${Math.min(12, tall - 1)}px system-ui, sans-serif`;
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    // The part that has passed has another ground than the rest.
    const past = job.state === "running" ? Math.min(room, Math.max(0, now - left)) : 0;
    const parts = [
      { from: 0, width: past, ink: "onSand" },
      { from: past, width: room - past, ink: "ink" },
    ];
    for (const { from, width, ink } of parts) {
      if (width <= 0) continue;
      pen.save();
      pen.beginPath();
      pen.rect(left + from, top, width, tall);
      pen.clip();
      pen.fillStyle = this.#ink(ink);
      pen.fillText(job.connid, left, top + tall / 2 + 0.5);
      pen.restore();
    }
  }

  /**
   * @param {Pen} pen
   * @param {Scene} scene
   */
  #drawNow(pen, { toX, height }) {
    const x = toX(this.#now);
    pen.strokeStyle = this.#ink("red");
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(x, AXIS - 6);
    pen.lineTo(x, height);
    pen.stroke();
    pen.lineWidth = 1;
  }

  /** @param {{ bars: Bar[], left: number }} laid */
  #describe({ bars, left }) {
    const text = left > 0 ? `${count(bars.length, "job")} drawn, ${left.toLocaleString("en")} more without room. Search or filter to see them.` : "";
    setText(this.#caption, text);
    this.#canvas.setAttribute("aria-label", `Timeline of ${count(bars.length, "job")}. The lists have the same jobs.`);
  }

  /** @param {MouseEvent} place */
  #barAt({ offsetX, offsetY }) {
    if (!this.#scene) return null;
    const { bars, laneHeight, toX } = this.#scene;
    const lane = Math.floor((offsetY - AXIS) / laneHeight);
    return bars.find((bar) => bar.lane === lane && toX(bar.start) - 2 <= offsetX && offsetX <= toX(bar.end) + 2) ?? null;
  }

  /** @param {PointerEvent | null} move */
  #hover(move) {
    const bar = move && this.#barAt(move);
    this.#canvas.style.cursor = bar ? "pointer" : "";
    this.#tip.hidden = !bar;
    if (this.#hovered !== (bar?.job ?? null)) this.#changed = true;
    this.#hovered = bar?.job ?? null;
    if (!bar || !move) return;
    const { job } = bar;
    const rest =
      job.state === "running" ? `${timeLeft(job.deadline - this.#now)} left of ${duration(job.time)}` : ending(job).label;
    setText(this.#tip, `${job.connid} · ${who(starter(job))} · ${rest}`);
    const room = this.#canvas.clientWidth - this.#tip.offsetWidth - 8;
    this.#tip.style.transform = `translate(${Math.max(4, Math.min(room, move.offsetX + 12))}px, ${move.offsetY + 16}px)`;
  }

  /** @param {string} name of a colour, which is slow to ask for */
  #ink(name) {
    this.#colours ??= Object.fromEntries(Object.entries(COLOURS).map(([key, property]) => [key, colour(property)]));
    return this.#colours[name];
  }
}

/**
 * @param {number} at
 * @param {boolean} exact whether to show the seconds
 */
function timeOf(at, exact) {
  /** @type {Intl.DateTimeFormatOptions} */
  const format = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(exact && { second: "2-digit" }) };
  return new Date(at * 1000).toLocaleTimeString([], format);
}

/**
 * @param {Pen} pen
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @param {number} height
 */
function rounded(pen, x, y, width, height) {
  pen.beginPath();
  pen.roundRect(x, y, width, height, Math.min(4, height / 2, width / 2));
  pen.fill();
}
