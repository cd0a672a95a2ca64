/**
 * The one timer of the page: it draws a frame when something will look different, and idles between.
 *
 *   const timer = new FrameTimer(frame);   // frame() draws, and returns the seconds until the next one
 *   timer.schedule(0);                     // something has changed: draw with the next frame
 */

/** Seconds below which each frame of the screen is drawn. */
const EVERY_FRAME = 0.034;
const LONGEST = 1;

export class FrameTimer {
  #frame;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #requested = false;

  /** @param {() => number} frame */
  constructor(frame) {
    this.#frame = frame;
  }

  /**
   * Draw in so many seconds, at most LONGEST; replaces what was scheduled before.
   *
   * @param {number} seconds
   */
  schedule(seconds) {
    clearTimeout(this.#timer);
    if (seconds < EVERY_FRAME) this.#request();
    else this.#timer = setTimeout(() => this.#request(), Math.min(LONGEST, seconds) * 1000);
  }

  #request() {
    if (this.#requested) return;
    this.#requested = true;
    requestAnimationFrame(() => {
      this.#requested = false;
      this.schedule(this.#frame());
    });
  }
}
