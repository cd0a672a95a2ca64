/**
 * What a job has printed, as far as the page knows. Pure.
 *
 *   const output = new Output(answer.output);      // of a `join` with a connid
 *   output.take({ offset, text })                  // an event; whether there is more now
 *   output.text
 *
 * Offsets count code points. What comes twice is skipped, what is missing is said, and of much only
 * the end is kept.
 */

const MOST = 65_536; // code points
/** Colours and the like, which a terminal would have taken out. */
const ESCAPES = new RegExp(`${String.fromCharCode(27)}\\[[0-9;?]*[A-Za-z]`, "g");

/** @typedef {{ offset: number, text: string }} Piece */

export class Output {
  /** @type {string[]} */
  #points = [];
  #end; // the offset of what comes next

  /** @param {Piece | null | undefined} first what the server keeps of it */
  constructor(first) {
    this.#end = first?.offset ?? 0;
    if (first) this.take(first);
  }

  /** @param {Piece} piece */
  take({ offset, text }) {
    const points = Array.from(text);
    const known = Math.max(0, this.#end - offset);
    if (known >= points.length) return false;
    const missed = offset - this.#end;
    if (missed > 0) this.#points.push(...`\n[${missed.toLocaleString("en")} characters missed]\n`);
    this.#points = this.#points.concat(points.slice(known)).slice(-MOST);
    this.#end = offset + points.length;
    return true;
  }

  get text() {
    return this.#points.join("").replace(ESCAPES, "");
  }
}
