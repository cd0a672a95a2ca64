/** The thread of Node or Bun in which jobs are kept: it goes on while the program computes. */

import { hostname, userInfo } from "node:os";
import { workerData } from "node:worker_threads";
import { Host } from "./host.js";

/** @import { Order } from "./host.js" */

const { port } = workerData;
const by = whoami();
const host = new Host((notice) => port.postMessage(notice));

port.on("message", (/** @type {Order} */ order) => {
  if (order.type === "begin") order.settings.by ??= by;
  host.receive(order);
});

/** `user@host`, as far as the machine knows them. */
function whoami() {
  try {
    return `${userInfo().username}@${hostname()}`.slice(0, 64);
  } catch {
    return hostname().slice(0, 64); // No name for the user's number, as in many containers.
  }
}
