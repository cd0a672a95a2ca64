/**
 * A connection to the server, over the official Socket.IO client: it knows no page.
 *
 *   const connection = new Connection({ io, credentials, onEvent, onChange });
 *   connection.follow(new RoomState("main"));
 *   connection.open();
 *   const answer = await connection.command("kill", { connid, run, room });
 *
 * `io` is the Socket.IO client's function and `credentials()` gives `{name, token}`, asked for at each
 * connect. Rooms that are followed are joined at each connect from where their state stands, and
 * again whenever their state finds a hole. `onEvent(name, data)` comes after the room's state has
 * taken the event. `onChange()` comes when `status` is another:
 *
 *   { line: "connecting" }                     the first attempt, or one on demand
 *   { line: "catching-up" }                    connected, but a room is not complete yet, or the server
 *                                              has lost its store; with `refusal` where it said why
 *   { line: "live" }                           what is shown is what is
 *   { line: "offline", since, retryAt }        with `refusal` where the server said why
 *   { line: "refused", since, refusal }        the server will say the same again: no retry
 *
 * `since` and `retryAt` are milliseconds of our own clock.
 *
 * A command is sent now or not at all. While there is no connection it is refused at once, because
 * a kill that fires by itself minutes later is worse than none.
 */

import { Backoff } from "./backoff.js";

const ANSWER_WITHIN_MS = 10_000;
const CHECK_WITHIN_MS = 4_000;
const CONNECT_WITHIN_MS = 10_000;
const JOIN_AGAIN_AFTER_MS = 2_000;
const RETRY_FIRST_MS = 1_000;
const RETRY_MOST_MS = 15_000;
const FINAL = new Set(["unauthorized", "forbidden"]);
const PASSING = new Set(["unavailable", "rate_limited", "internal"]);

/**
 * @typedef {import("./state.js").Job} Job
 * @typedef {import("./state.js").EndedJob} EndedJob
 * @typedef {import("./state.js").RoomState} RoomState
 *
 * @typedef {object} Status how the connection is; instants are milliseconds of our own clock
 * @property {"connecting" | "catching-up" | "live" | "offline" | "refused"} line
 * @property {number} [since] since when it is not up
 * @property {number} [retryAt] when the next attempt is due
 * @property {CommandError | null} [refusal] why the server did not let us in
 *
 * @typedef {object} Answer what a command that was carried out is answered
 * @property {true} ok
 * @property {string} result
 * @property {string} room
 * @property {string} epoch
 * @property {number} seq
 * @property {number} [now]
 * @property {Job | EndedJob} [job]
 * @property {{ offset: number, text: string }} [output]
 * @property {(Job | EndedJob)[]} [jobs]
 * @property {Record<string, unknown>[]} [events]
 * @property {{ room: string, running: number }[]} [rooms]
 * @property {number | null} [before]
 *
 * @typedef {(url: any, options: any) => any} Io the Socket.IO client's function
 *
 * @typedef {(name: string, data?: object) => Promise<Answer>} Command gives a command and returns its
 *   answer; throws a CommandError
 *
 * @typedef {object} Problem
 * @property {string} code
 * @property {string} message
 * @property {string | null} [field]
 * @property {number | null} [retry_after]
 * @property {boolean} [unknown]
 *
 * @typedef {ReturnType<typeof setTimeout> | undefined} Timer
 *
 * @typedef {object} ConnectionOptions
 * @property {Io} io
 * @property {string} [url]
 * @property {object} [options] more of the Socket.IO client's own
 * @property {() => { name?: string, token?: string }} [credentials]
 * @property {(name: string, data: any) => void} [onEvent]
 * @property {() => void} [onChange]
 */

/**
 * A command that did not succeed: `code`, `field`, `retryAfter` (seconds), `job` and `unknown` (whether it
 * may have been carried out all the same) as answered.
 */
export class CommandError extends Error {
  /**
   * @param {Problem} problem
   * @param {Job | EndedJob | null} [job]
   */
  constructor({ code, message, field = null, retry_after: retryAfter = null, unknown = false }, job = null) {
    super(message);
    this.code = code;
    this.field = field;
    this.retryAfter = retryAfter;
    this.unknown = unknown;
    this.job = job;
  }

  /** Whether it is worth trying again. */
  get passing() {
    return PASSING.has(this.code);
  }
}

export class Connection {
  /** @type {any} */
  #socket; // of a client whose types are not ours
  #credentials;
  #onEvent;
  #onChange;
  /** @type {Map<string, Followed>} */
  #followed = new Map(); // by room
  #clock = new Clock();
  /** @type {Status} */
  #status = { line: "connecting" };
  #backoff = new Backoff(RETRY_FIRST_MS, RETRY_MOST_MS);
  /** @type {Timer} */
  #retryTimer;
  /** @type {CommandError | null} */
  #farewell = null; // why the server is about to end the connection, where it says so

  /** @param {ConnectionOptions} options */
  constructor({ io, url, options, credentials = () => ({}), onEvent, onChange }) {
    this.#credentials = credentials;
    this.#onEvent = onEvent ?? (() => {});
    this.#onChange = onChange ?? (() => {});
    this.#socket = io(url, {
      ...options,
      autoConnect: false,
      // We retry by ourselves, so that the page can say when.
      reconnection: false,
      timeout: CONNECT_WITHIN_MS,
      // A WebSocket at once needs no sticky sessions; long polling remains for networks without it.
      transports: ["websocket", "polling"],
      tryAllTransports: true,
      auth: (/** @type {(auth: object) => void} */ send) => send({ ...this.#credentials(), rooms: [] }),
    });
    this.#socket.on("connect", () => this.#connected());
    this.#socket.on("disconnect", (/** @type {string} */ reason) => this.#disconnected(reason));
    this.#socket.on("connect_error", (/** @type {any} */ error) => this.#failed(error));
    this.#socket.onAny((/** @type {string} */ name, /** @type {any} */ data) => this.#received(name, data));
  }

  /** @returns {boolean} */
  get connected() {
    return this.#socket.connected;
  }

  get status() {
    return this.#status;
  }

  /** Now by the server's clock, in seconds. */
  serverNow() {
    return this.#clock.now();
  }

  /**
   * Why the server does not let us into a room, for good or for now; null when it does.
   *
   * @param {string} room
   */
  refusalOf(room) {
    return this.#followed.get(room)?.refusal ?? null;
  }

  /**
   * Keep a RoomState up to date from now on.
   *
   * @param {RoomState} state
   */
  follow(state) {
    const followed = new Followed(state);
    this.#followed.set(state.room, followed);
    if (this.connected) this.#join(followed);
    this.#settle();
  }

  /**
   * Hear no more of a room.
   *
   * @param {string} room
   */
  unfollow(room) {
    const followed = this.#followed.get(room);
    if (!followed) return;
    clearTimeout(followed.timer ?? undefined);
    this.#followed.delete(room);
    if (this.connected) this.command("leave", { room }).catch(() => {});
    this.#settle();
  }

  /** Connect, or try again at once instead of when the time for it has come. */
  open() {
    clearTimeout(this.#retryTimer);
    if (this.connected) return;
    const { since } = this.#status;
    this.#change({ line: "connecting", ...(since && { since }) });
    this.#socket.connect();
  }

  /** Connect anew with the present name and token. */
  reopen() {
    this.close();
    this.open();
  }

  close() {
    clearTimeout(this.#retryTimer);
    this.#socket.disconnect();
    this.#forgetJoins();
  }

  /**
   * Find out whether the connection still works, as after a computer has slept: one that does not is
   * closed at once and opened again.
   */
  async check() {
    if (!this.connected) return;
    const engine = this.#socket.io.engine;
    const [followed] = this.#followed.values();
    if (!followed || followed.refusal) return;
    try {
      await this.#join(followed, CHECK_WITHIN_MS);
    } catch {
      if (this.#socket.io.engine === engine) engine.close();
    }
  }

  /**
   * Send a command and return its answer; throws a CommandError, also when there is no connection.
   *
   * @param {string} name
   * @param {object} [data]
   * @param {number} [within] milliseconds that the answer may take
   * @returns {Promise<Answer>}
   */
  async command(name, data, within = ANSWER_WITHIN_MS) {
    if (!this.connected) throw notConnected();
    const answering = this.#socket.timeout(within).emitWithAck(name, data);
    if (this.#socket.sendBuffer.length > 0) {
      // The connection was found dead just now, and the client has kept the command for the next one.
      this.#socket.sendBuffer.length = 0;
      answering.catch(() => {});
      throw notConnected();
    }
    const sent = performance.now();
    const answer = await answering.catch(() => {
      throw noAnswer();
    });
    if (!answer?.ok) throw new CommandError(answer?.error ?? unreadable(), answer?.job);
    this.#clock.learn(answer.now, sent);
    return answer;
  }

  /**
   * Join a room, at first or again; throws only where no answer comes.
   *
   * @param {Followed} followed
   * @param {number} [within] milliseconds
   */
  async #join(followed, within = ANSWER_WITHIN_MS) {
    const { state } = followed;
    const { room } = state;
    // The second time in a row asks for a snapshot instead of the gap.
    const since = followed.timer === null ? state.position() : null;
    clearTimeout(followed.timer ?? undefined);
    followed.timer = setTimeout(() => this.#joinAgain(followed), JOIN_AGAIN_AFTER_MS);
    try {
      const answer = await this.command("join", since ? { room, since } : { room }, within);
      followed.joined(answer);
    } catch (/** @type {any} */ error) {
      if (error.code === "offline" || error.code === "no_answer") throw error;
      followed.refused(error);
    }
    this.#settle();
  }

  /** @param {Followed} followed */
  #joinAgain(followed) {
    if (!this.connected || followed.complete || isFinal(followed.refusal)) {
      followed.timer = null;
    } else {
      this.#join(followed).catch(() => {});
    }
  }

  /**
   * @param {string} name
   * @param {any} data
   */
  #received(name, data) {
    // It is no earlier there by now, however long this was on its way.
    this.#clock.learn(data?.now ?? data?.at);
    if (name === "closing") this.#farewell = new CommandError(data);
    const followed = this.#followed.get(data?.room);
    if (!followed) return;
    if (name === "available") followed.away = !data.available;
    followed.state.apply(name, data);
    if (followed.state.behind && followed.timer === null) this.#join(followed).catch(() => {});
    this.#onEvent(name, data);
    if (this.#status.line !== "live" || !followed.settled) this.#settle();
  }

  #connected() {
    this.#backoff.reset();
    this.#clock.doubt();
    for (const followed of this.#followed.values()) this.#join(followed).catch(() => {});
    this.#settle();
  }

  /** Say whether all is complete, as long as there is a connection. */
  #settle() {
    if (!this.connected) return;
    const waiting = [...this.#followed.values()].filter(({ settled }) => !settled);
    const refusal = waiting.find((followed) => followed.refusal)?.refusal ?? null;
    this.#change(waiting.length > 0 ? { line: "catching-up", refusal } : { line: "live" });
  }

  /** @param {string} reason */
  #disconnected(reason) {
    this.#forgetJoins();
    const farewell = this.#farewell;
    this.#farewell = null;
    if (reason !== "io client disconnect") this.#lost(farewell);
  }

  /** @param {any} error */
  #failed(error) {
    this.#lost(this.#socket.active ? null : refusalOf(error));
  }

  /** @param {CommandError | null} refusal */
  #lost(refusal) {
    if (!isFinal(refusal)) return this.#retry(refusal);
    const since = this.#status.since ?? Date.now();
    return this.#change({ line: "refused", since, refusal });
  }

  /**
   * Try again later, and no earlier than the server has asked for.
   *
   * @param {CommandError | null} refusal
   */
  #retry(refusal) {
    const wait = Math.max(this.#backoff.next(), (refusal?.retryAfter ?? 0) * 1000);
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.open(), wait);
    const since = this.#status.since ?? Date.now();
    this.#change({ line: "offline", since, retryAt: Date.now() + wait, refusal });
  }

  #forgetJoins() {
    for (const followed of this.#followed.values()) followed.lost();
  }

  /** @param {Status} status */
  #change(status) {
    const { line, retryAt, refusal } = this.#status;
    const same = status.line === line && status.retryAt === retryAt && status.refusal?.code === refusal?.code;
    this.#status = status;
    if (!same) this.#onChange();
  }
}

/** A room that is followed: what the server said that it will send, and whether that has come. */
class Followed {
  /** @type {CommandError | null} */
  refusal = null;
  /** @type {Timer | null} */
  timer = null; // set while a join is given its time
  /** @type {import("./state.js").Position | null} */
  target = null; // that the last join has promised
  away = false; // whether the server has lost its store

  /** @param {RoomState} state */
  constructor(state) {
    this.state = state;
  }

  /** @param {import("./state.js").Position} target */
  joined({ epoch, seq }) {
    this.target = { epoch, seq };
    this.refusal = null;
  }

  /** @param {CommandError} error */
  refused(error) {
    this.refusal = error;
    if (error.code === "forbidden") this.state.forget();
  }

  lost() {
    clearTimeout(this.timer ?? undefined);
    this.timer = null;
    this.target = null;
    this.refusal = null;
    this.away = false;
    this.state.disconnected();
  }

  get complete() {
    const { state, target, away } = this;
    return !away && target !== null && state.epoch === target.epoch && state.seq >= target.seq && !state.behind;
  }

  /** Whether nothing more is to be waited for. */
  get settled() {
    return this.complete || (this.refusal !== null && !this.refusal.passing);
  }
}

/**
 * The server's clock, counted on by one of ours that nobody sets: each instant that the server tells says
 * between which bounds it is ahead. Where they contradict each other, as ours stood still while the
 * computer slept, or another server is there, the latest is right.
 */
export class Clock {
  #steady;
  #offset; // milliseconds to add to our clock
  #least = -Infinity; // that it can be
  #most = Infinity;

  /** @param {() => number} steady milliseconds of a clock that only goes forward */
  constructor(steady = () => performance.now()) {
    this.#steady = steady;
    this.#offset = Date.now() - steady();
  }

  /** Now by the server's clock, in seconds. */
  now() {
    return (this.#steady() + this.#offset) / 1000;
  }

  /** Forget the bounds: it may be another server. */
  doubt() {
    this.#least = -Infinity;
    this.#most = Infinity;
  }

  /**
   * It was `told`, in seconds, after `sent` by our clock, where we have asked, and until now.
   *
   * @param {unknown} told
   * @param {number} [sent]
   */
  learn(told, sent = -Infinity) {
    if (typeof told !== "number" || !Number.isFinite(told)) return;
    const least = told * 1000 - this.#steady();
    const most = told * 1000 - sent;
    if (least > this.#most || most < this.#least) this.doubt();
    this.#least = Math.max(least, this.#least);
    this.#most = Math.min(most, this.#most);
    if (Number.isFinite(this.#least) && Number.isFinite(this.#most)) {
      this.#offset = (this.#least + this.#most) / 2;
    } else {
      this.#offset = Math.max(this.#least, Math.min(this.#most, this.#offset));
    }
  }
}

/** @param {CommandError | null} refusal */
const isFinal = (refusal) => refusal !== null && FINAL.has(refusal.code);

/**
 * The server's own words about a refused connect.
 *
 * @param {any} error
 */
function refusalOf(error) {
  const told = error.data?.error ?? error.data;
  const object = told !== null && typeof told === "object" ? told : {};
  return new CommandError({ code: "refused", ...object, message: object.message ?? error.message });
}

const notConnected = () =>
  new CommandError({
    code: "offline",
    message: "Not connected, so nothing was sent. Try again when the page is live.",
  });

const noAnswer = () =>
  new CommandError({
    code: "no_answer",
    message: "No answer came. It may have worked: look at the list before trying again.",
  });

const unreadable = () => ({ code: "unreadable", message: "The server's answer makes no sense." });
