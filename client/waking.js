/**
 * Notices when the page, the network or the computer is back: then a line may be dead without a word,
 * and nobody wants to wait for the next attempt.
 *
 *   onWaking(() => …);
 */

/** A clock that jumped by so much, in milliseconds, means that the computer has slept. */
const SLEPT_MS = 10_000;

export function onWaking(wake) {
  addEventListener("online", wake);
  document.addEventListener("visibilitychange", () => document.hidden || wake());
  let last = Date.now();
  setInterval(() => {
    // Timers of a hidden page are slowed down by its browser, too.
    if (!document.hidden && Date.now() - last > SLEPT_MS) wake();
    last = Date.now();
  }, SLEPT_MS / 4);
}
