/**
 * Light or dark, by the system or by switch.
 *
 * Loaded by itself before the page is drawn, so that a dark page never flashes light. Whoever draws
 * by hand hears of a change by the event `themechange` of the document.
 */

import { keep, recall } from "./storage.js";

const SYSTEM = matchMedia("(prefers-color-scheme: dark)");

export const theme = () => recall("theme") || "system";

/** @param {string} name `system`, `light` or `dark` */
export function setTheme(name) {
  keep("theme", name === "system" ? "" : name);
  apply();
}

function apply() {
  const chosen = recall("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
  document.dispatchEvent(new Event("themechange"));
}

/**
 * The colour that a custom property of the style sheet has now, as `rgb(…)`.
 *
 * @param {string} name
 */
export function colour(name) {
  probe.style.color = `var(${name})`;
  if (!probe.isConnected) document.body.append(probe);
  return getComputedStyle(probe).color;
}

const probe = Object.assign(document.createElement("span"), { hidden: true });
SYSTEM.addEventListener("change", apply);
apply();
