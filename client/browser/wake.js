/**
 * Notices when the page, the network or the computer is back: then a line may be dead without a word,
 * and nobody wants to wait for the next attempt.
 *
 *   onWaking(() => …);
 */

/** A clock that jumped by so much, in milliseconds, means that the computer has slept. */
const SLEPT_MS = 10_000;
/** Two clocks that went apart by so much, in milliseconds: one of them stood still, or was set. */
const APART_MS = 1_000;

/** @param {() => void} wake */
export function onWaking(wake) {
  addEventListener("online", wake);
  document.addEventListener("visibilitychange", () => document.hidden || wake());
  let last = Date.now();
  let apart = last - performance.now();
  setInterval(() => {
    const now = Date.now();
    // The clock that we count by stands still in sleep in some browsers. Or the date was set, which is no harm.
    const stood = Math.abs(now - performance.now() - apart) > APART_MS;
    // Timers of a hidden page are slowed down by its browser, too.
    if (!document.hidden && (stood || now - last > SLEPT_MS)) wake();
    last = now;
    apart = now - performance.now();
  }, SLEPT_MS / 4);
}
