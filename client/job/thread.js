/**
 * Starts the thread in which Node and Bun keep jobs. It holds no program at its exit.
 *
 *   const { post, drain } = startThread({ receive, lost });
 *   post(order);
 *   drain();          // receives at once what has come, also in a loop that lets nothing else run
 */

import { MessageChannel, receiveMessageOnPort, Worker } from "node:worker_threads";

/**
 * @import { Notice, Order } from "./host.js"
 *
 * @param {{ receive: (notice: Notice) => void, lost: (error: Error) => void }} listener
 */
export function startThread({ receive, lost }) {
  const { port1: port, port2: other } = new MessageChannel();
  const worker = new Worker(new URL("./worker.js", import.meta.url), {
    workerData: { port: other },
    transferList: [other],
    // Node 20 has a WebSocket, but shows it only when asked.
    execArgv: "WebSocket" in globalThis ? [] : ["--experimental-websocket"],
  });
  worker.on("error", lost);
  worker.unref();
  port.on("message", receive);
  port.unref();
  return {
    post: (/** @type {Order} */ order) => port.postMessage(order),
    drain: () => {
      for (let got = receiveMessageOnPort(port); got; got = receiveMessageOnPort(port)) receive(got.message);
      return undefined;
    },
  };
}
