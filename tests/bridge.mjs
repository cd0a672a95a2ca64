/**
 * Drive the official JavaScript Socket.IO client from a test in another language.
 *
 *   node tests/bridge.mjs http://127.0.0.1:8000 '{"auth": {"name": "ana"}}'
 *
 * One JSON object a line, both ways. The second argument is passed to `io()`.
 *
 * stdin:   {"id": 1, "emit": "kill", "args": [{...}]}   emit and wait for the acknowledgement
 *          {"emit": "kill", "args": [...], "noack": true}
 *          {"close": true}                              or the end of stdin: disconnect and exit
 *          {"$binary": "<base64>"} anywhere in `args` becomes a Buffer
 * stdout:  {"connected": true, "id": "..."}             at each connect
 *          {"disconnected": "<reason>"}
 *          {"connect_error": "<message>", "data": ...}
 *          {"event": "started", "args": [...]}          whatever the server sends
 *          {"id": 1, "ack": [...]}
 *          {"error": "<what was wrong with a line>", "line": "..."}
 */

import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const [url, options = "{}"] = process.argv.slice(2);
if (!url) {
  console.error("usage: node tests/bridge.mjs URL [OPTIONS-AS-JSON]");
  process.exit(2);
}

const socket = io(url, { ...JSON.parse(options), autoConnect: false });

socket.on("connect", () => print({ connected: true, id: socket.id }));
socket.on("disconnect", (reason) => print({ disconnected: reason }));
socket.on("connect_error", (error) => print({ connect_error: error.message, data: error.data }));
socket.onAny((event, ...args) => print({ event, args }));
socket.connect();

const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  if (line.trim() === "") return;
  try {
    obey(JSON.parse(line, reviveBinary));
  } catch (error) {
    print({ error: error.message, line });
  }
});
input.on("close", () => {
  socket.disconnect();
  process.stdin.destroy();
});

function obey({ id, emit, args = [], noack = false, close = false }) {
  if (close) input.close();
  else if (noack) socket.emit(emit, ...args);
  else socket.emit(emit, ...args, (...ack) => print({ id, ack }));
}

function print(object) {
  process.stdout.write(`${JSON.stringify(object, showBinary)}\n`);
}

function reviveBinary(_key, value) {
  return typeof value?.$binary === "string" ? Buffer.from(value.$binary, "base64") : value;
}

/** `this[key]` and not `value`: a Buffer has already become an array of numbers in the latter. */
function showBinary(key, value) {
  const original = this[key];
  return Buffer.isBuffer(original) ? { $binary: original.toString("base64") } : value;
}
