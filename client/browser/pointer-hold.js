/**
 * Whether the reader is interacting with a list, whose rows must not move then.
 *
 *   const hold = new PointerHold(list, released);   // released() when the reader does so no more
 *   hold.active
 */

/** How long rows stay in place after the last interaction, in milliseconds. */
const HOLD_MS = 8_000;
const INTERACTIONS = ["pointermove", "pointerdown", "keydown", "wheel"];

export class PointerHold {
  #released;
  #until = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {HTMLElement} list
   * @param {() => void} released
   */
  constructor(list, released) {
    this.#released = released;
    for (const name of INTERACTIONS) list.addEventListener(name, () => this.#hold(), { passive: true });
    list.addEventListener("pointerleave", ({ pointerType }) => pointerType === "mouse" && this.#release());
  }

  get active() {
    return performance.now() < this.#until;
  }

  #hold() {
    this.#until = performance.now() + HOLD_MS;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#release(), HOLD_MS);
  }

  #release() {
    if (this.#until === 0) return;
    this.#until = 0;
    clearTimeout(this.#timer);
    this.#released();
  }
}
