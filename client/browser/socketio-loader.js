/**
 * Waits for what is loaded besides the page's own modules.
 *
 *   whenClientLoaded((io) => …, () => …);   // the Socket.IO client; the second says that it is missing
 *   whenIdle(() => …);                      // when the page is drawn and has time
 */

import { within } from "./dom.js";

const PATIENCE_MS = 10_000;
const IDLE_WITHIN_MS = 3_000;

/** @typedef {import("../follow/connection.js").Io} Io */

/** @returns {Io | undefined} */
const client = () => /** @type {any} */ (globalThis).io;

/**
 * Call `loaded(io)` once it is there, and `missing()` when it seems that it will not come.
 *
 * @param {(io: Io) => void} loaded
 * @param {() => void} missing
 */
export function whenClientLoaded(loaded, missing) {
  const io = client();
  if (io) {
    loaded(io);
    return;
  }
  const script = within(document, 'script[src*="socket.io"]');
  script.addEventListener("load", () => {
    const late = client();
    if (late) loaded(late);
  });
  script.addEventListener("error", missing);
  // The error may have come before this module ran, and a firewall may just swallow the request.
  setTimeout(() => client() || missing(), PATIENCE_MS);
  addEventListener("load", () => client() || missing());
}

/** @param {() => void} act */
export function whenIdle(act) {
  if ("requestIdleCallback" in globalThis) requestIdleCallback(act, { timeout: IDLE_WITHIN_MS });
  else setTimeout(act, IDLE_WITHIN_MS / 10);
}
