/** Durations as people write them. */

const MINUTE = 60;

/** @type {Record<string, number>} */
const UNITS = { s: 1, m: MINUTE, h: 60 * MINUTE, d: 24 * 60 * MINUTE };

/**
 * The seconds of a duration: "90", "1.5", "5m", "1h 30m", "2d"; null where it is none.
 *
 * @param {string} text
 */
export function typedSeconds(text) {
  const typed = text.trim().toLowerCase();
  if (/^(\d+(\.\d+)?|\.\d+)$/.test(typed)) return Number(typed);
  if (!/^(\d+(\.\d+)?\s*[smhd]\s*)+$/.test(typed)) return null;
  const units = [...typed.replaceAll(/[\d.\s]/g, "")];
  const numbers = typed.split(/[smhd]/);
  return units.reduce((sum, unit, index) => sum + Number(numbers[index]) * UNITS[unit], 0);
}

/**
 * The same of what a program gives; throws a RangeError for what is no duration.
 *
 * @param {number | string} value
 * @param {string} name
 */
export function secondsOf(value, name) {
  const found = typeof value === "string" ? typedSeconds(value) : value;
  if (typeof found === "number" && Number.isFinite(found) && found >= 0) return found;
  throw new RangeError(`${name} must be seconds, or a text such as 90, 10m or 1h30m, not ${value}`);
}
