/**
 * The state of one room, as the events tell it.
 *
 * Pure: no DOM, no sockets, no clock. Hand it every event that arrives, in any order:
 *
 *   const state = new RoomState("main");
 *   state.apply("snapshot", {...});   // -> "applied"
 *   state.apply("started", {...});    // -> "applied", "duplicate", "held" or "ignored"
 *   if (state.behind) ...             // something was missed: join again with state.position()
 *   state.running(); state.ended(); state.find(run); state.presence;
 *
 * An event of the log is applied when its seq is the next one, ignored when it is not newer, and held
 * when it came too early, until the ones before it are there. Jobs are never changed in place, so
 * that a view can tell by identity what to draw again. Names come from users: they are only ever
 * values or keys of a Map.
 */

const HELD_LIMIT = 1000;
const EARLY_PROGRESS_LIMIT = 200;

/**
 * @typedef {object} Job a running job; instants are seconds of the server's clock
 * @property {string} connid
 * @property {string} run
 * @property {string} room
 * @property {"running"} state
 * @property {number} time the seconds that it may run
 * @property {number} started_at
 * @property {number} deadline
 * @property {string} by who started it
 * @property {string | null} note
 * @property {{ done: number | null, note: string | null, at?: number } | null} progress
 * @property {number | null} lease
 * @property {"yes" | "cooperative" | "no"} [stoppable] what a kill can do to the work
 *
 * @typedef {Omit<Job, "state"> & Ending} EndedJob a job that was killed or has finished
 *
 * @typedef {object} Ending
 * @property {"killed" | "finished"} state
 * @property {number} seq
 * @property {number} ended_at
 * @property {string} started_by
 * @property {string | null} [reason] why it was killed
 * @property {"socket" | "websocket" | "http" | "cli" | "server" | null} [via] through which door
 * @property {"elapsed" | "done" | "failed" | "lost" | null} [outcome] how it finished
 * @property {unknown} [result] what its owner left
 * @property {boolean} [late]
 * @property {number | null} [exit]
 * @property {number | null} [stopped_at]
 * @property {number} [amended_at] when its owner said how it truly ended, where it was `lost` before
 *
 * @typedef {Omit<Job, "state"> & Partial<Omit<Ending, "state">> & Pick<Job | EndedJob, "state">} AnyJob
 *   a job of which it does not matter whether it has ended
 *
 * @typedef {{ epoch: string, seq: number }} Position where a state stands in the log of its room
 *
 * @typedef {"applied" | "duplicate" | "held" | "ignored"} Applied
 */

export class RoomState {
  /** @type {Map<string, Job>} */
  #running = new Map(); // by run, oldest first
  /** @type {Map<string, EndedJob>} */
  #ended = new Map(); // by run, oldest first
  /** @type {Map<number, [string, any]>} */
  #held = new Map(); // by seq: [name, event] that came too early
  /** @type {Map<string, { done: number | null, note: string | null, at: number }>} */
  #earlyProgress = new Map(); // by run: progress of a job whose `started` is still to come
  /** @type {Map<string, number>} */
  #reportedAt = new Map(); // run -> when its last report on this connection was
  #heard = 0; // the highest seq that we know to exist
  #uncertain = false; // held events were dropped at a new epoch; they may have been of that one

  /**
   * @param {string} room
   * @param {{ endedLimit?: number }} [options]
   */
  constructor(room, { endedLimit = 50 } = {}) {
    this.room = room;
    this.endedLimit = endedLimit;
    /** @type {string | null} */
    this.epoch = null;
    this.seq = 0;
    /** @type {{ watching: number, names: string[] } | null} */
    this.presence = null;
  }

  /** Whether a snapshot has come, so that an empty list means that nothing is running. */
  get known() {
    return this.epoch !== null;
  }

  /** Whether events are missing that no one will send unless we join again. */
  get behind() {
    return this.known && (this.#heard > this.seq || this.#uncertain);
  }

  /**
   * What to send as `since`; null asks for a snapshot.
   *
   * @returns {Position | null}
   */
  position() {
    return this.epoch !== null && !this.#uncertain ? { epoch: this.epoch, seq: this.seq } : null;
  }

  /** Running jobs, the newest first: a job keeps its place for as long as it runs. */
  running() {
    return [...this.#running.values()].reverse();
  }

  /** The last ended jobs, the newest first. */
  ended() {
    return [...this.#ended.values()].reverse();
  }

  /** How many jobs are running. */
  get size() {
    return this.#running.size;
  }

  /**
   * The job of a run, running or among the last ended ones.
   *
   * @param {string} run
   * @returns {Job | EndedJob | undefined}
   */
  find(run) {
    return this.#running.get(run) ?? this.#ended.get(run);
  }

  /**
   * Take an event that has arrived, of any name and any room.
   *
   * @param {string} name
   * @param {any} event
   * @returns {Applied}
   */
  apply(name, event) {
    if (event?.room !== this.room) return "ignored";
    if (name === "snapshot") return this.#applySnapshot(event);
    if (name === "progress") return this.#applyProgress(event);
    if (name === "presence") {
      this.presence = { watching: event.watching, names: event.names ?? [] };
      return "applied";
    }
    return Number.isSafeInteger(event.seq) ? this.#applyLogged(name, event) : "ignored";
  }

  /** The connection is gone: whatever came too early will be sent again after the reconnect. */
  disconnected() {
    this.#held.clear();
    this.#earlyProgress.clear();
    this.#heard = this.seq;
    this.#uncertain = false;
    // The next server may count from an earlier date.
    this.#reportedAt.clear();
  }

  /** We may not see the room any more: nothing is known of it. */
  forget() {
    this.epoch = null;
    this.seq = 0;
    this.presence = null;
    this.#running.clear();
    this.#ended.clear();
    this.disconnected();
  }

  /** @param {{ epoch: string, seq: number, running: Job[], ended: EndedJob[] }} snapshot */
  #applySnapshot({ epoch, seq, running, ended }) {
    const sameLog = epoch === this.epoch;
    if (sameLog && seq < this.seq) return "duplicate";
    if (!sameLog && this.known) {
      // Events carry no epoch, so nothing tells whether the held ones are of the old log or the new.
      this.#uncertain = this.#held.size > 0;
      this.#held.clear();
      this.#heard = seq;
    } else {
      this.#uncertain = false;
      this.#heard = Math.max(this.#heard, seq);
    }
    this.epoch = epoch;
    this.seq = seq;
    this.#reportedAt.clear();
    this.#running = byRun([...running].sort((a, b) => a.started_at - b.started_at));
    this.#ended = byRun([...ended].sort((a, b) => a.seq - b.seq));
    this.#dropOldEnded();
    for (const held of this.#held.keys()) if (held <= seq) this.#held.delete(held);
    for (const job of running) this.#adoptEarlyProgress(job);
    this.#applyHeld();
    return "applied";
  }

  /** @param {{ run: string, done: number | null, note: string | null, at: number }} event */
  #applyProgress({ run, done, note, at }) {
    const progress = { done, note, at };
    const job = this.#running.get(run);
    if (job) {
      if (this.#isOlder(run, progress)) return "duplicate";
      this.#reportedAt.set(run, at);
      this.#running.set(run, { ...job, progress });
      return "applied";
    }
    if (this.#ended.has(run)) return "ignored";
    if (at < (this.#earlyProgress.get(run)?.at ?? -Infinity)) return "duplicate";
    this.#earlyProgress.set(run, progress);
    dropOldest(this.#earlyProgress, EARLY_PROGRESS_LIMIT);
    return "held";
  }

  /**
   * @param {string} name
   * @param {any} event
   * @returns {Applied}
   */
  #applyLogged(name, event) {
    const { seq } = event;
    if (this.known && seq <= this.seq) return "duplicate";
    this.#heard = Math.max(this.#heard, seq);
    if (!this.known || seq > this.seq + 1) {
      if (this.#held.size < HELD_LIMIT) this.#held.set(seq, [name, event]);
      return "held";
    }
    this.#advance(name, event);
    this.#applyHeld();
    return "applied";
  }

  #applyHeld() {
    for (let next = this.#next(); next; next = this.#next()) this.#advance(...next);
  }

  #next() {
    return this.#held.get(this.seq + 1);
  }

  /**
   * @param {string} name
   * @param {any} event
   */
  #advance(name, event) {
    this.seq = event.seq;
    this.#held.delete(event.seq);
    if (name === "started") {
      this.#running.set(event.job.run, event.job);
      this.#adoptEarlyProgress(event.job);
    } else if (name === "extended") {
      this.#extend(event);
    } else if (name === "killed" || name === "finished") {
      this.#end(name, event);
    } else if (name === "stopped") {
      this.#annotate(event.run, { exit: event.exit, stopped_at: event.at });
    } else if (name === "amended") {
      const { outcome, result, at } = event;
      this.#annotate(event.run, { outcome, result, amended_at: at });
    } // Any other is of a newer server: it moves nothing but the position.
  }

  /** @param {{ run: string, time: number, deadline: number }} event */
  #extend({ run, time, deadline }) {
    const job = this.#running.get(run);
    if (job) this.#running.set(run, { ...job, time, deadline });
  }

  /** @param {Job} started */
  #adoptEarlyProgress({ run }) {
    const progress = this.#earlyProgress.get(run);
    this.#earlyProgress.delete(run);
    const job = this.#running.get(run);
    if (!job || !progress || this.#isOlder(run, progress)) return;
    this.#reportedAt.set(run, progress.at);
    this.#running.set(run, { ...job, progress });
  }

  /**
   * Two nodes may pass on the progress of one job; the later instant wins, whichever comes last.
   *
   * @param {string} run
   * @param {{ at: number }} progress
   */
  #isOlder(run, { at }) {
    return at < (this.#reportedAt.get(run) ?? -Infinity);
  }

  /**
   * @param {string} name
   * @param {any} event
   */
  #end(name, event) {
    const { run, connid, room } = event;
    const job = this.#running.get(run) ?? { run, connid, room };
    this.#running.delete(run);
    this.#earlyProgress.delete(run);
    this.#reportedAt.delete(run);
    this.#ended.set(run, name === "killed" ? killedJob(job, event) : finishedJob(job, event));
    this.#dropOldEnded();
  }

  /**
   * The owner of an ended job has said more about it.
   *
   * @param {string} run
   * @param {Partial<Ending>} facts
   */
  #annotate(run, facts) {
    const job = this.#ended.get(run);
    if (job) this.#ended.set(run, { ...job, ...facts });
  }

  #dropOldEnded() {
    dropOldest(this.#ended, this.endedLimit);
  }
}

/**
 * @template {{ run: string }} J
 * @param {J[]} jobs
 */
const byRun = (jobs) => new Map(jobs.map((job) => [job.run, job]));

/**
 * @template K, V
 * @param {Map<K, V>} map
 * @param {number} limit
 */
function dropOldest(map, limit) {
  for (const key of map.keys()) {
    if (map.size <= limit) return;
    map.delete(key);
  }
}

/**
 * The ended job that a running one becomes, with the fields that a snapshot gives it.
 *
 * @param {any} job of which only the ids are known where its start was missed
 * @param {{ seq: number, at: number }} event
 */
function endedJob(job, { seq, at }) {
  return { ...job, seq, started_by: job.started_by ?? job.by, ended_at: at };
}

/**
 * @param {any} job
 * @param {any} event
 * @returns {EndedJob}
 */
function killedJob(job, event) {
  const { by, via, reason } = event;
  return { ...endedJob(job, event), state: "killed", by, via, reason };
}

/**
 * @param {any} job
 * @param {any} event
 * @returns {EndedJob}
 */
function finishedJob(job, event) {
  const { outcome, result, late = false } = event;
  return { ...endedJob(job, event), state: "finished", outcome, result, late };
}
