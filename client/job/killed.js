/** What the work of a job is stopped with. */

/** Somebody has killed the job: `by` whom, and the `reason` where one was given. */
export class Killed extends Error {
  name = "Killed";
  /** @type {string | null} */
  by;
  /** @type {string | null} */
  reason;

  /**
   * @param {string} message
   * @param {{ by?: string | null, reason?: string | null }} [how]
   */
  constructor(message, { by = null, reason = null } = {}) {
    super(message);
    this.by = by;
    this.reason = reason;
  }
}

/** The time of the job is over. */
export class TimedOut extends Killed {
  name = "TimedOut";
}
