/**
 * Whether somebody aims at a row of a list, which must not move away then.
 *
 *   const aim = new Aim(list, changed);   // changed() when nobody does any more
 *   aim.held
 */

/** How long rows stay in place after the reader has last moved in the list, in milliseconds. */
const HOLD_MS = 8_000;
const MOVES = ["pointermove", "pointerdown", "keydown", "wheel"];

export class Aim {
  #changed;
  #until = 0;
  #timer = null;

  constructor(list, changed) {
    this.#changed = changed;
    for (const move of MOVES) list.addEventListener(move, () => this.#hold(), { passive: true });
    list.addEventListener("pointerleave", ({ pointerType }) => pointerType === "mouse" && this.#letGo());
  }

  get held() {
    return performance.now() < this.#until;
  }

  #hold() {
    this.#until = performance.now() + HOLD_MS;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#letGo(), HOLD_MS);
  }

  #letGo() {
    if (this.#until === 0) return;
    this.#until = 0;
    clearTimeout(this.#timer);
    this.#changed();
  }
}
