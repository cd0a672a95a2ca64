/**
 * The dashboard: wires connection -> state -> view, and view -> connection for commands.
 *
 * Loaded by index.html, which also loads the Socket.IO client (the global `io`). The room comes from
 * the address, `/?room=deploys`, and is `main` without one.
 */

import { CommandError, Connection } from "./connection.js";
import { RoomState } from "./state.js";
import { View } from "./view.js";
import { instant } from "./words.js";

const ROOM_NAME = /^[A-Za-z0-9._-]{1,64}$/;
const CLIENT_PATIENCE_MS = 10_000;
const HIDDEN_DRAW_MS = 1_000;

const room = new URLSearchParams(location.search).get("room") || "main";
const state = new RoomState(room);
const view = new View(document, { start, kill, rename, authorize });
const kept = new Map(); // what the reader told this page, by key
let connection = null;
let changed = true; // since the last draw
let lostAt = null; // when the connection went, by the reader's clock

view.showRoom(room, remembered("name"));
if (ROOM_NAME.test(room)) whenClientLoaded(connect, sayClientMissing);
else sayRoomInvalid();

function connect(io) {
  connection = new Connection({
    io,
    room,
    auth: () => ({ name: remembered("name") || undefined, token: remembered("token") || undefined }),
    position: () => state.position(),
    behind: () => state.behind,
    onEvent: receive,
    onChange: showConnection,
  });
  connection.open();
  requestAnimationFrame(everyFrame);
  // No frames come while the page is hidden, but its title still counts the jobs.
  setInterval(() => document.hidden && drawChanges(), HIDDEN_DRAW_MS);
}

function receive(name, data) {
  state.apply(name, data);
  changed = true;
  connection.caughtUp();
}

function everyFrame() {
  drawChanges();
  view.tick(connection.serverNow());
  requestAnimationFrame(everyFrame);
}

/** Many events may come between two frames; they are drawn once. */
function drawChanges() {
  if (changed) view.draw(state);
  changed = false;
}

function showConnection(change) {
  if (change.state === "offline") state.disconnected();
  lostAt = change.state === "live" ? null : (lostAt ?? Date.now() / 1000);
  view.showConnection(change);
  if (change.state === "connecting") return;
  view.showNotice(noticeOf(change), { askToken: change.refusal?.code === "unauthorized" });
}

function noticeOf({ state: line, refusal }) {
  if (line === "live") return "";
  if (refusal) return `The server did not let this page in: ${refusal.message}`;
  if (!state.known) return "The server does not answer. Check that it is running; this page keeps trying.";
  return `No connection. The list is as it was at ${instant(lostAt)}. Nothing can be started or killed until it is back.`;
}

function start({ connid, time, note }) {
  return command("request", { room, connid, time, ...(note && { note }) });
}

function kill({ connid, run }) {
  return command("kill", { room, connid, run });
}

async function command(name, data) {
  if (connection) return connection.command(name, data);
  throw new CommandError({ code: "offline", message: "Not connected, so nothing was sent." });
}

function rename(name) {
  if (name === remembered("name")) return;
  remember("name", name);
  connection?.reopen();
}

function authorize(token) {
  remember("token", token);
  connection?.reopen();
}

/** Call `loaded(io)` once the Socket.IO client is there, and `missing()` when it seems that it will not come. */
function whenClientLoaded(loaded, missing) {
  if (globalThis.io) return loaded(globalThis.io);
  const script = document.querySelector('script[src*="socket.io"]');
  script.addEventListener("load", () => loaded(globalThis.io));
  script.addEventListener("error", missing);
  // The error may have come before this module ran, and a firewall may just swallow the request.
  setTimeout(() => globalThis.io || missing(), CLIENT_PATIENCE_MS);
  addEventListener("load", () => globalThis.io || missing());
}

function sayClientMissing() {
  view.showConnection({ state: "offline", text: "Offline" });
  view.showNotice(
    "The Socket.IO client could not be loaded from cdn.socket.io. " +
      "Check that this network and your browser's blockers allow that address, then load this page again.",
  );
}

function sayRoomInvalid() {
  view.showConnection({ state: "offline", text: "Offline" });
  view.showNotice(
    "The room in the address cannot exist: a name is made of 1 to 64 letters, digits, dots, dashes and underscores. " +
      "Correct ?room= in the address, or leave it out for the room main.",
  );
}

/** What the reader told this browser; without storage (it can be forbidden) it is kept for this page only. */
function remembered(key) {
  if (kept.has(key)) return kept.get(key);
  try {
    return localStorage.getItem(`hourglass.${key}`) ?? "";
  } catch {
    return "";
  }
}

function remember(key, value) {
  kept.set(key, value);
  try {
    localStorage.setItem(`hourglass.${key}`, value);
  } catch {
    // Kept in memory, which is enough until the page is loaded again.
  }
}
