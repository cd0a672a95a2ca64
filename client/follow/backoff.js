/**
 * How long to wait before the next attempt: ever longer, and random, so that a crowd that has lost the
 * same server does not come back at once.
 *
 *   const backoff = new Backoff(1_000, 15_000);    // milliseconds: at first, and at most
 *   setTimeout(open, backoff.next());
 *   backoff.reset();                               // once an attempt was a success
 */
export class Backoff {
  #firstMs;
  #mostMs;
  #attempts = 0;

  /**
   * @param {number} firstMs
   * @param {number} mostMs
   */
  constructor(firstMs, mostMs) {
    this.#firstMs = firstMs;
    this.#mostMs = mostMs;
  }

  /** How many attempts have been waited for since the last success. */
  get attempts() {
    return this.#attempts;
  }

  /** Milliseconds to wait: between half of what is due and all of it. */
  next() {
    const due = Math.min(this.#mostMs, this.#firstMs * 2 ** this.#attempts);
    this.#attempts += 1;
    return due * (0.5 + Math.random() / 2);
  }

  reset() {
    this.#attempts = 0;
  }

  /**
   * Wait no longer than this from now on.
   *
   * @param {number} ms no less than the first wait is taken
   */
  limit(ms) {
    this.#mostMs = Math.min(this.#mostMs, Math.max(this.#firstMs, ms));
  }
}
