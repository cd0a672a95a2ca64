/**
 * Waits for what is loaded besides the page's own modules.
 *
 *   whenClientLoaded((io) => …, () => …);   // the Socket.IO client; the second says that it is missing
 *   whenIdle(() => …);                      // when the page is drawn and has time
 */

const PATIENCE_MS = 10_000;
const IDLE_WITHIN_MS = 3_000;

/** Call `loaded(io)` once it is there, and `missing()` when it seems that it will not come. */
export function whenClientLoaded(loaded, missing) {
  if (globalThis.io) return loaded(globalThis.io);
  const script = document.querySelector('script[src*="socket.io"]');
  script.addEventListener("load", () => loaded(globalThis.io));
  script.addEventListener("error", missing);
  // The error may have come before this module ran, and a firewall may just swallow the request.
  setTimeout(() => globalThis.io || missing(), PATIENCE_MS);
  addEventListener("load", () => globalThis.io || missing());
  return undefined;
}

export function whenIdle(act) {
  if (globalThis.requestIdleCallback) requestIdleCallback(act, { timeout: IDLE_WITHIN_MS });
  else setTimeout(act, IDLE_WITHIN_MS / 10);
}
