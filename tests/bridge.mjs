/**
 * Drive the official JavaScript Socket.IO client from tests in another language.
 *
 *   node tests/bridge.mjs
 *
 * It prints the port that it listens on, and serves until its stdin ends. Each connection to the
 * port is one client; it is spoken to in JSON, one object a line, both ways.
 *
 * to it:   {"url": "http://127.0.0.1:8000", "options": {"auth": {"name": "ana"}}}
 *                                                       first of all: what `io()` is given
 *          {"id": 1, "emit": "kill", "args": [{...}]}   emit and wait for the acknowledgement
 *          {"emit": "kill", "args": [...], "noack": true}
 *          {"close": true}                              or the end of the connection: disconnect
 *          {"$binary": "<base64>"} anywhere in `args` becomes a Buffer
 * from it: {"connected": true, "id": "..."}             at each connect
 *          {"disconnected": "<reason>"}
 *          {"connect_error": "<message>", "data": ...}
 *          {"event": "started", "args": [...]}          whatever the server sends
 *          {"id": 1, "ack": [...]}
 *          {"error": "<what was wrong with a line>", "line": "..."}
 */

import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const server = createServer({ noDelay: true }, serve);
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit()).resume();

function serve(connection) {
  const input = createInterface({ input: connection });
  let socket = null;
  let retries = false; // then an acknowledgement comes behind an error, or null

  input.on("line", (line) => {
    if (line.trim() === "") return;
    try {
      obey(JSON.parse(line, reviveBinary));
    } catch (error) {
      print({ error: error.message, line });
    }
  });
  input.on("close", () => {
    socket?.disconnect();
    connection.end();
  });
  connection.on("error", () => input.close());

  function obey({ url, options, id, emit, args = [], noack = false, close = false }) {
    if (close) input.close();
    else if (url) connect(url, options);
    else if (noack) socket.emit(emit, ...args);
    else socket.emit(emit, ...args, (...ack) => print({ id, ack: retries ? ack.slice(1) : ack }));
  }

  function connect(url, options) {
    retries = options.retries > 0;
    // Each a connection of its own, as those of different browsers are.
    socket = io(url, { ...options, autoConnect: false, forceNew: true });
    socket.on("connect", () => print({ connected: true, id: socket.id }));
    socket.on("disconnect", (reason) => print({ disconnected: reason }));
    socket.on("connect_error", ({ message, data }) => print({ connect_error: message, data }));
    socket.onAny((event, ...args) => print({ event, args }));
    socket.connect();
  }

  function print(object) {
    if (connection.writable) connection.write(`${JSON.stringify(object, showBinary)}\n`);
  }
}

function reviveBinary(_key, value) {
  return typeof value?.$binary === "string" ? Buffer.from(value.$binary, "base64") : value;
}

/** `this[key]` and not `value`: a Buffer has already become an array of numbers in the latter. */
function showBinary(key, value) {
  const original = this[key];
  return Buffer.isBuffer(original) ? { $binary: original.toString("base64") } : value;
}
