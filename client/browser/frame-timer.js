/**
 * The one timer of the page: it draws a frame when something will look different, and rests between.
 *
 *   const pulse = new Pulse(frame);   // frame() draws, and returns the seconds until the next one
 *   pulse.in(0);                      // something has changed: with the next frame
 */

/** Seconds below which there is a frame for each of the screen's. */
const FLUENT = 0.034;
const LONGEST = 1;

export class Pulse {
  #frame;
  #timer = null;
  #asked = false;

  constructor(frame) {
    this.#frame = frame;
  }

  in(seconds) {
    clearTimeout(this.#timer);
    if (seconds < FLUENT) this.#ask();
    else this.#timer = setTimeout(() => this.#ask(), Math.min(LONGEST, seconds) * 1000);
  }

  #ask() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.in(this.#frame());
    });
  }
}
