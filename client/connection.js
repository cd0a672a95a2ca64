/**
 * The dashboard's line to the server, over the official Socket.IO client.
 *
 *   const connection = new Connection({ io, room, auth, position, behind, onEvent, onChange });
 *   connection.open();
 *   const answer = await connection.command("kill", { connid, run, room });
 *
 * `auth()` gives `{name, token}` and `position()` the `since` of the room; both are asked anew at
 * each connect, so that a reconnect continues where the state stands. `onEvent(name, data)` gets
 * every event. `onChange({state, text, refusal})` tells of the line itself: `live`, `connecting` or
 * `offline`; `refusal` is the server's error, where it is the server that does not let us in.
 * `caughtUp()` is to be called after events: it joins again for as long as `behind()` says that some
 * are missing.
 *
 * A command is sent now or not at all. While there is no connection it is refused at once, because
 * a kill that fires by itself minutes later is worse than none.
 */

const ANSWER_WITHIN_MS = 10_000;
const JOIN_AGAIN_AFTER_MS = 2_000;
const RETRY_REFUSED_AFTER_MS = 5_000;

/** A command that did not succeed: `code`, `field` and `job` as in the server's answer. */
export class CommandError extends Error {
  constructor({ code, message, field = null }, job = null) {
    super(message);
    this.code = code;
    this.field = field;
    this.job = job;
  }
}

export class Connection {
  #socket;
  #options;
  #clockOffset = 0; // seconds to add to our clock to get the server's
  #retryTimer = null; // the next attempt after the server refused us or sent us away
  #joinTimer = null; // set while an answer to a join is awaited or given its time

  constructor(options) {
    this.#options = options;
    this.#socket = options.io({
      autoConnect: false,
      // A WebSocket at once needs no sticky sessions; long polling remains for networks without it.
      transports: ["websocket", "polling"],
      tryAllTransports: true,
      auth: (send) => send(this.#credentials()),
    });
    this.#socket.on("connect", () => this.#connected());
    this.#socket.on("disconnect", (reason) => this.#disconnected(reason));
    this.#socket.on("connect_error", (error) => this.#failed(error));
    this.#socket.onAny((name, data) => this.#received(name, data));
  }

  get live() {
    return this.#socket.connected;
  }

  /** Now by the server's clock, in seconds. */
  serverNow() {
    return Date.now() / 1000 + this.#clockOffset;
  }

  open() {
    this.#stopTimers();
    this.#change("connecting", "Connecting");
    this.#socket.connect();
  }

  /** Connect anew with the present name and token. */
  reopen() {
    this.#socket.disconnect();
    this.open();
  }

  /** Send a command and return its answer; throws a CommandError, also when there is no connection. */
  async command(name, data) {
    if (!this.live) throw notConnected();
    const answering = this.#socket.timeout(ANSWER_WITHIN_MS).emitWithAck(name, data);
    if (this.#socket.sendBuffer.length > 0) {
      // The line was found dead just now and the client has kept the command for the next one.
      this.#socket.sendBuffer.length = 0;
      answering.catch(() => {});
      throw notConnected();
    }
    const answer = await answering.catch(() => {
      throw noAnswer();
    });
    if (!answer?.ok) throw new CommandError(answer?.error ?? unreadable(), answer?.job);
    return answer;
  }

  /** Join again when events are missing; a second try asks for a snapshot instead of the gap. */
  caughtUp() {
    if (this.#joinTimer !== null || !this.live || !this.#options.behind()) return;
    this.#join(this.#options.position());
  }

  async #join(since) {
    const { room, behind } = this.#options;
    this.#joinTimer = setTimeout(() => {
      this.#joinTimer = null;
      if (this.live && behind()) this.#join(null);
    }, JOIN_AGAIN_AFTER_MS);
    const sentAt = Date.now();
    try {
      const answer = await this.command("join", since ? { room, since } : { room });
      this.#setClock(answer.now, (sentAt + Date.now()) / 2);
    } catch (error) {
      console.warn(`Joining ${room} again did not work: ${error.message}`);
    }
  }

  #credentials() {
    const { room, auth, position } = this.#options;
    const since = position();
    // `room` is a checked name, and a computed key in a literal never sets a prototype.
    return { ...auth(), rooms: [room], ...(since && { since: { [room]: since } }) };
  }

  #received(name, data) {
    if (name === "snapshot") this.#setClock(data?.now, Date.now());
    this.#options.onEvent(name, data);
  }

  #setClock(serverNow, localMs) {
    if (Number.isFinite(serverNow)) this.#clockOffset = serverNow - localMs / 1000;
  }

  #connected() {
    this.#change("live", "Live");
  }

  #disconnected(reason) {
    this.#stopTimers();
    if (reason === "io client disconnect") return;
    this.#change("offline", "Offline, retrying");
    // The client retries by itself when the line broke, not when the server closed it on purpose.
    if (!this.#socket.active) this.#retryAfter(RETRY_REFUSED_AFTER_MS);
  }

  #failed(error) {
    this.#stopTimers();
    if (this.#socket.active) {
      this.#change("offline", "Offline, retrying");
      return;
    }
    const refusal = refusalOf(error);
    const final = refusal.code === "unauthorized" || refusal.code === "forbidden";
    this.#change("offline", final ? "Not let in" : "Offline, retrying", refusal);
    if (!final) this.#retryAfter((refusal.retry_after ?? 0) * 1000 || RETRY_REFUSED_AFTER_MS);
  }

  #retryAfter(ms) {
    this.#retryTimer = setTimeout(() => this.#socket.connect(), ms);
  }

  #stopTimers() {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#joinTimer);
    this.#joinTimer = null;
  }

  #change(state, text, refusal = null) {
    this.#options.onChange({ state, text, refusal });
  }
}

/** The server's own words about a refused connect: `{code, message}`. */
function refusalOf(error) {
  const told = error.data?.error ?? error.data;
  const object = told !== null && typeof told === "object" ? told : {};
  return { code: "refused", ...object, message: object.message ?? error.message };
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
