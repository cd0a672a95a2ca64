/**
 * Commands and their answers, and events, over one WebSocket of `/ws`.
 *
 *   const socket = await Socket.connect(settings, onEvent);   // throws Away
 *   await socket.call("kill", { connid: "a" });               // throws CommandError, and Away
 *   await socket.closed;
 */

import { CommandError } from "../follow/connection.js";

const CONNECT_WITHIN_MS = 10_000;
const ANSWER_WITHIN_MS = 10_000;
const REASON_WITHIN_MS = 2_000;
/** Node 20 tells of a connection that was refused by the first alone. */
const LOSSES = ["error", "close"];

/**
 * @import { Answer } from "../follow/connection.js"
 *
 * @typedef {object} Settings
 * @property {string} url the address of the server
 * @property {string} [token]
 * @property {string} room
 * @property {string} [by] what others see, where no token says it
 *
 * @typedef {{ answered: (answer: Answer) => void, failed: (error: Error) => void }} Waiting
 */

/** The server cannot be reached, or is reached no more: what was asked may have been done. */
export class Away extends Error {}

export class Socket {
  #socket;
  #onEvent;
  /** @type {Map<number, Waiting>} */
  #waiting = new Map(); // by the id of the command
  #lastId = 0;
  #over = false;
  /** @type {() => void} */
  #lost = () => {};
  /** @type {Promise<void>} fulfilled when the connection is lost */
  closed = new Promise((closed) => (this.#lost = closed));

  /**
   * @param {WebSocket} socket that is open
   * @param {(name: string, event: any) => void} onEvent
   */
  constructor(socket, onEvent) {
    this.#socket = socket;
    this.#onEvent = onEvent;
    socket.addEventListener("message", ({ data }) => this.#received(data));
    for (const name of LOSSES) socket.addEventListener(name, () => this.#ended());
  }

  /**
   * @param {Settings} settings
   * @param {(name: string, event: any) => void} onEvent
   * @returns {Promise<Socket>}
   */
  static async connect(settings, onEvent) {
    const socket = opened(settings);
    return new Promise((connected, failed) => {
      const patience = setTimeout(() => socket.close(), CONNECT_WITHIN_MS);
      socket.addEventListener("open", () => {
        clearTimeout(patience);
        connected(new Socket(socket, onEvent));
      });
      const refused = () => {
        clearTimeout(patience);
        failed(new Away(`${settings.url} cannot be reached`));
      };
      for (const name of LOSSES) socket.addEventListener(name, refused, { once: true });
    });
  }

  /**
   * @param {string} command
   * @param {object} fields those that are undefined or null are left out
   * @returns {Promise<Answer>}
   */
  call(command, fields) {
    const id = ++this.#lastId;
    return new Promise((answered, failed) => {
      this.check();
      const patience = setTimeout(() => this.close(), ANSWER_WITHIN_MS);
      const settle = () => {
        clearTimeout(patience);
        this.#waiting.delete(id);
      };
      this.#waiting.set(id, {
        answered: (answer) => (settle(), answered(answer)),
        failed: (error) => (settle(), failed(error)),
      });
      this.#socket.send(JSON.stringify({ route: command, id, ...fields }));
    });
  }

  /** Throws Away when the connection is lost. */
  check() {
    if (this.#over) throw new Away("the connection was lost");
  }

  /** Give the connection up. */
  close() {
    // The other side may be gone, and its answer to this would be long in coming.
    this.#ended();
    this.#socket.close();
  }

  /** @param {string} text */
  #received(text) {
    const message = parsed(text);
    if (message === null) {
      this.close(); // It is no server of ours.
      return;
    }
    if (message.event !== undefined) {
      this.#onEvent(message.event, message);
      return;
    }
    const waiting = this.#waiting.get(message.id);
    if (message.ok) waiting?.answered(message);
    else waiting?.failed(new CommandError(message.error, message.job));
  }

  #ended() {
    this.#over = true;
    for (const { failed } of this.#waiting.values()) failed(new Away("the connection was lost"));
    this.#lost();
  }
}

/** Whether this is Node or Bun, whose WebSocket takes headers. */
const inRuntime = Boolean(/** @type {any} */ (globalThis).process?.versions?.node);

/**
 * Why there is no connection, which a WebSocket does not say.
 *
 * @param {Settings} settings
 */
export async function reasonOf({ url, token }) {
  const headers = token ? { Authorization: `Bearer ${token}` } : undefined;
  try {
    const answer = await fetch(`${url.replace(/\/$/, "")}/api/rooms`, { headers, signal: AbortSignal.timeout(REASON_WITHIN_MS) });
    const { error } = await answer.json();
    if (error) return `${url} refuses the connection: ${error.message}`;
  } catch {
    // It is away, or no page of ours may ask.
  }
  return `${url} cannot be reached`;
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** @param {Settings} settings */
function opened(settings) {
  try {
    return open(settings);
  } catch {
    throw new Away(`${settings.url} is no address of a server`);
  }
}

/** @param {Settings} settings */
function open({ url, token, by }) {
  const address = new URL(url);
  address.protocol = address.protocol.replace("http", "ws");
  address.pathname = `${address.pathname.replace(/\/$/, "")}/ws`;
  address.search = "";
  address.searchParams.set("rooms", "");
  if (by) address.searchParams.set("name", by);
  if (!token) return new WebSocket(address);
  // Proxies log addresses, so that is only for browsers, which can send no header.
  if (!inRuntime) address.searchParams.set("token", token);
  const headers = { Authorization: `Bearer ${token}` };
  return inRuntime ? new WebSocket(address, /** @type {any} */ ({ headers })) : new WebSocket(address);
}
