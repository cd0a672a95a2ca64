/**
 * Two charts of the last minutes: how many jobs were running, and how they ended.
 *
 *   const charts = new Charts();
 *   charts.load();                  // fetches uPlot from its CDN, when the page has time for it
 *   charts.draw(series([…], now));  // once a second or so
 *
 * uPlot is pinned and checked by `integrity`. Without it everything else works, and the page says so.
 */

import { byId, make, setText, within } from "../browser/dom.js";
import { colour } from "../browser/theme.js";
import { ENDS, STEP } from "../models/trend.js";
import { count } from "../models/format.js";

const CDN = "https://cdn.jsdelivr.net/npm/uplot@1.6.32/dist/";
const SCRIPT = ["uPlot.iife.min.js", "sha384-Gx3t0zdBAuQOuvvmaLZj7HKEiSgWTAs+VdtNY7wt19QDPTDQjFIwAuXDj0zeN00c"];
const STYLE = ["uPlot.min.css", "sha384-IfV0B7MIOYuO95kO9G5ySKPz/85zqFNOAs8iy4tkK5zd9izhJAB8b7lHrwYqqmYE"];
const PATIENCE_MS = 10_000;
const HEIGHT = 112;
/** @type {Record<End, string>} */
const NAMES = { done: "Done", elapsed: "Time ran out", killed: "Killed", failed: "Failed", lost: "Lost" };
/** @type {Record<End, string>} */
const COLOURS = { done: "--green", elapsed: "--sand", killed: "--red", failed: "--plum", lost: "--blue" };

/**
 * @import { End, Series } from "../models/trend.js"
 *
 * @typedef {object} Plot of uPlot
 * @property {number} width
 * @property {(data: unknown[]) => void} setData
 * @property {(size: { width: number, height: number }) => void} setSize
 * @property {() => void} destroy
 *
 * @typedef {{ new (options: object, data: unknown[], place: HTMLElement): Plot, paths: any }} UPlot
 */

/** @returns {UPlot | undefined} the library, once it is loaded */
const library = () => /** @type {any} */ (globalThis).uPlot;

export class Charts {
  #section = byId("charts");
  #missing = within(this.#section, ".missing");
  /** @type {{ running: Plot, ends: Plot } | null} */
  #plots = null;
  /** @type {Series | null} */
  #shown = null; // what was drawn last

  constructor() {
    within(this.#missing, "button").addEventListener("click", () => this.load());
    document.addEventListener("themechange", () => this.#rebuild());
    new ResizeObserver(() => this.#fit()).observe(this.#section);
    within(this.#section, ".legend").replaceChildren(
      ...ENDS.map((how) => {
        const item = make("li", NAMES[how]);
        item.dataset.how = how;
        return item;
      }),
    );
  }

  async load() {
    if (this.#plots) return;
    this.#say("");
    try {
      await Promise.all([fetchStyle(), fetchScript()]);
      this.#rebuild();
    } catch {
      this.#say(
        "The charts need uPlot from cdn.jsdelivr.net, which could not be loaded; all else works without it. " +
          "Check that this network and your browser's blockers allow that address.",
      );
    }
  }

  /** @param {Series} series */
  draw(series) {
    this.#shown = series;
    this.#describe(series);
    if (!this.#plots) {
      this.#rebuild();
      return;
    }
    this.#plots.running.setData([series.times, series.running]);
    this.#plots.ends.setData([series.times, ...stacked(series)]);
  }

  #rebuild() {
    const uPlot = library();
    if (!uPlot || !this.#section.offsetParent) return;
    for (const plot of Object.values(this.#plots ?? {})) plot.destroy();
    const width = byId("running-chart").clientWidth;
    const sand = colour("--sand");
    this.#plots = {
      running: plot(uPlot, byId("running-chart"), width, [
        { label: "running", stroke: sand, fill: faint(sand), width: 2, points: { show: false } },
      ]),
      // The sum of all comes first and is painted over by the sums of fewer.
      ends: plot(uPlot, byId("ends-chart"), width, ENDS.map((how) => bars(uPlot, colour(COLOURS[how]))).reverse()),
    };
    if (this.#shown) this.draw(this.#shown);
  }

  #fit() {
    const width = byId("running-chart").clientWidth;
    if (!width) return;
    for (const plot of Object.values(this.#plots ?? {})) {
      if (plot.width !== width) plot.setSize({ width, height: HEIGHT });
    }
  }

  /** @param {Series} series */
  #describe({ running, ends }) {
    const most = Math.max(0, ...running.map((number) => number ?? 0));
    const now = running.at(-1) ?? 0;
    byId("running-chart").setAttribute("aria-label", `${count(now, "job")} running now, at most ${most.toLocaleString("en")}.`);
    const sums = ENDS.map((how) => ({ how, sum: ends[how].reduce((sum, number) => sum + number, 0) }));
    const named = sums.filter(({ sum }) => sum > 0).map(({ how, sum }) => `${NAMES[how]}: ${sum.toLocaleString("en")}`);
    byId("ends-chart").setAttribute("aria-label", `Ends. ${named.join(", ") || "None"}.`);
  }

  /** @param {string} text */
  #say(text) {
    setText(within(this.#missing, ".text"), text);
    this.#missing.hidden = text === "";
  }
}

/**
 * @param {UPlot} uPlot
 * @param {HTMLElement} place
 * @param {number} width
 * @param {object[]} series
 */
function plot(uPlot, place, width, series) {
  const ink = colour("--muted");
  const grid = { stroke: colour("--line"), width: 1 };
  const axis = { stroke: ink, grid, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const clock = (/** @type {number} */ at) => new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const options = {
    width,
    height: HEIGHT,
    padding: [8, 18, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: upTo } },
    axes: [
      { ...axis, size: 22, gap: 4, space: 56, values: labels(clock), grid: { show: false } },
      { ...axis, size: 40, gap: 4, space: 28, values: labels(short) },
    ],
    series: [{}, ...series],
  };
  return new uPlot(options, [[0, STEP], ...series.map(() => [null, null])], place);
}

/** @param {(value: number) => string} format */
const labels = (format) => (/** @type {unknown} */ _, /** @type {number[]} */ values) => values.map(format);

/**
 * The range of an axis from 0, with some room above.
 *
 * @param {unknown} _
 * @param {unknown} __
 * @param {number} most
 */
const upTo = (_, __, most) => [0, Math.max(2, most * 1.1)];

/**
 * @param {UPlot} uPlot
 * @param {string} stroke
 */
function bars(uPlot, stroke) {
  const paths = uPlot.paths.bars({ size: [0.75, 8], align: -1 });
  return { stroke, fill: stroke, width: 0, paths, points: { show: false } };
}

/**
 * The ends as sums over the kinds, the largest first, so that each bar shows above the next.
 *
 * @param {Series} series
 */
function stacked({ times, ends }) {
  /** @type {(number | null)[][]} */
  const sums = [];
  let below = times.map(() => 0);
  for (const how of ENDS) {
    below = below.map((sum, at) => sum + ends[how][at]);
    sums.unshift(below.map((sum) => sum || null));
  }
  return sums;
}

/** @param {number} number */
const short = (number) =>
  number >= 1000 ? `${Math.round(number / 100) / 10}k` : Number.isInteger(number) ? String(number) : "";
/** @param {string} rgb */
const faint = (rgb) => rgb.replace("rgb(", "rgba(").replace(")", ", 0.16)");

function fetchStyle() {
  return loadOnce(make("link", "", { rel: "stylesheet", href: CDN + STYLE[0], integrity: STYLE[1] }));
}

function fetchScript() {
  if (library()) return Promise.resolve();
  return loadOnce(make("script", "", { src: CDN + SCRIPT[0], integrity: SCRIPT[1] }));
}

/**
 * @param {HTMLLinkElement | HTMLScriptElement} element
 * @returns {Promise<void>}
 */
function loadOnce(element) {
  element.crossOrigin = "anonymous";
  return new Promise((loaded, failed) => {
    // A firewall may just swallow the request.
    const patience = setTimeout(() => element.dispatchEvent(new Event("error")), PATIENCE_MS);
    element.addEventListener("load", () => {
      clearTimeout(patience);
      loaded();
    });
    element.addEventListener("error", () => {
      clearTimeout(patience);
      element.remove();
      failed();
    });
    document.head.append(element);
  });
}
