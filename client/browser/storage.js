/**
 * What the reader told this browser. Without storage (it can be forbidden) it is kept for this page.
 *
 *   recall("name"); keep("name", "ana");                 // in this browser
 *   recall("token", tab); keep("token", "eyJ…", tab);    // in this tab, until it is closed
 */

const kept = new Map();

export const browser = () => localStorage;
export const tab = () => sessionStorage;

export function recall(key, storage = browser) {
  if (kept.has(key)) return kept.get(key);
  try {
    return storage().getItem(`hourglass.${key}`) ?? "";
  } catch {
    return "";
  }
}

export function keep(key, value, storage = browser) {
  kept.set(key, value);
  try {
    if (value) storage().setItem(`hourglass.${key}`, value);
    else storage().removeItem(`hourglass.${key}`);
  } catch {
    // Kept in memory, which is enough until the page is loaded again.
  }
}

/** The same for values that are no text; what cannot be read is null. */
export function recallJson(key) {
  try {
    return JSON.parse(recall(key));
  } catch {
    return null;
  }
}
