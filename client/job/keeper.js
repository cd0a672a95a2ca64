/**
 * Where the jobs of this program are kept: in a thread of its own in Node and Bun, so that a loop that
 * lets nothing else run is not taken for dead; in a page, right here.
 *
 *   const keeper = await theKeeper();
 *   const id = keeper.begin(settings, plan, (notice) => …);
 *   keeper.post({ id, type: "leave", outcome: "done", result: null });
 */

import { Host } from "./host.js";

/**
 * @import { Notice, Order } from "./host.js"
 * @import { Settings } from "./socket.js"
 * @import { Plan } from "./kept-job.js"
 *
 * @typedef {object} Place
 * @property {(order: Order) => void} post
 * @property {() => Promise<void> | undefined} drain takes what has come, also where nothing else can run;
 *   returns what to await where that needs a moment
 */

class Keeper {
  /** @type {Map<number, (notice: Notice) => void>} */
  #listeners = new Map(); // by the id of the job
  #lastId = 0;
  /** @type {Place} */
  #place;
  /** @type {Error | null} */
  lost = null;

  /** @param {(receive: (notice: Notice) => void, lost: (error: Error) => void) => Place} start */
  constructor(start) {
    this.#place = start(
      (notice) => this.#receive(notice),
      (error) => this.#lose(error),
    );
  }

  /**
   * @param {Settings} settings
   * @param {Plan} plan
   * @param {(notice: Notice) => void} listener
   */
  begin(settings, plan, listener) {
    const id = ++this.#lastId;
    this.#listeners.set(id, listener);
    if (this.lost) queueMicrotask(() => this.#lose(/** @type {Error} */ (this.lost)));
    else this.post({ id, type: "begin", settings, plan });
    return id;
  }

  /** @param {Order} order */
  post(order) {
    this.#place.post(order);
  }

  /** See Place. */
  drain() {
    return this.#place.drain();
  }

  /** @param {Notice} notice */
  #receive(notice) {
    this.#listeners.get(notice.id)?.(notice);
    if (notice.type === "over") this.#listeners.delete(notice.id);
  }

  /** @param {Error} error */
  #lose(error) {
    this.lost = error;
    for (const [id, listener] of this.#listeners) {
      listener({ id, type: "problem", data: `jobs can be shown no more: ${error.message}` });
      listener({ id, type: "over" });
    }
    this.#listeners.clear();
  }
}

/** @type {Promise<Keeper> | null} */
let present = null;

/** The keeper of this program, which is made when it is first needed. */
export async function theKeeper() {
  if ((await present)?.lost) present = null;
  present ??= start().catch(nowhere);
  return present;
}

const start = () => (/** @type {any} */ (globalThis).process?.versions?.node ? inThread() : inPage());

/**
 * Where no thread can be started, work runs unseen.
 *
 * @param {Error} error
 */
function nowhere(error) {
  const keeper = new Keeper(() => ({ post: () => {}, drain: () => undefined }));
  keeper.lost = error;
  return keeper;
}

async function inThread() {
  const { startThread } = await import("./thread.js");
  return new Keeper((receive, lost) => startThread({ receive, lost }));
}

async function inPage() {
  return new Keeper((receive) => {
    const host = new Host(receive);
    return { post: (order) => host.receive(order), drain: () => new Promise((resume) => setTimeout(resume)) };
  });
}
