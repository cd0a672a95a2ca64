/**
 * What the reader told this browser. Without storage (it can be forbidden) it is kept for this page.
 *
 *   recall("name"); keep("name", "ana");                 // in this browser
 *   recall("token", tab); keep("token", "eyJ…", tab);    // in this tab, until it is closed
 */

/** @type {Map<string, string>} */
const kept = new Map();

export const browser = () => localStorage;
export const tab = () => sessionStorage;

/**
 * What is kept under a key, "" for nothing.
 *
 * @param {string} key
 * @param {() => Storage} [storage]
 */
export function recall(key, storage = browser) {
  const known = kept.get(key);
  if (known !== undefined) return known;
  try {
    return storage().getItem(`hourglass.${key}`) ?? "";
  } catch {
    return "";
  }
}

/**
 * @param {string} key
 * @param {string} value "" for nothing
 * @param {() => Storage} [storage]
 */
export function keep(key, value, storage = browser) {
  kept.set(key, value);
  try {
    if (value) storage().setItem(`hourglass.${key}`, value);
    else storage().removeItem(`hourglass.${key}`);
  } catch {
    // Kept in memory, which is enough until the page is loaded again.
  }
}

/**
 * The same for values that are no text; what cannot be read is null.
 *
 * @param {string} key
 */
export function recallJson(key) {
  try {
    return JSON.parse(recall(key));
  } catch {
    return null;
  }
}
