/**
 * The dashboard: wires the connection and the states of the rooms to what is seen, and back.
 *
 * Loaded by index.html, which also loads the Socket.IO client (the global `io`). What is shown comes
 * from the address (navigation.js): rooms, view, search, order, and the job that is open.
 */

import { whenClientLoaded, whenIdle } from "../browser/socketio-loader.js";
import { byId } from "../browser/dom.js";
import { keep, recall } from "../browser/storage.js";
import { onWaking } from "../browser/wake.js";
import { CommandError, Connection } from "../follow/connection.js";
import { CLIENT_MISSING, offlineNotice, refusedNotice, roomsNotice, whySignIn } from "../models/notices.js";
import { Board } from "../views/board.js";
import { Charts } from "../views/charts.js";
import { Detail } from "../views/detail.js";
import { Ended } from "../views/ended.js";
import { listenToKeys } from "../views/keys.js";
import { Kills } from "../views/kills.js";
import { Menu } from "../views/menu.js";
import { Watches } from "../views/notify.js";
import { RoomTabs } from "../views/room-tabs.js";
import { SignIn } from "../views/signin.js";
import { Start } from "../views/start.js";
import { StatusLine } from "../views/status-line.js";
import { Timeline } from "../views/timeline.js";
import { unsay } from "../views/toasts.js";
import { Toolbar } from "../views/toolbar.js";
import { ChartsFeed } from "./charts-feed.js";
import { Navigation } from "./navigation.js";
import { OpenRooms } from "./open-rooms.js";
import { Renderer } from "./render.js";
import { shortcuts } from "./shortcuts.js";

/**
 * @import { AnyJob } from "../follow/state.js"
 * @import { View } from "../models/address.js"
 */

/** @type {Connection | null} */
let connection = null;
let clientMissing = false; // the Socket.IO client could not be loaded

const rooms = new OpenRooms();
const navigation = new Navigation({
  shown: showView,
  opened: () => detail.takeFocus(),
  closed: (run) => (navigation.view.view === "ended" ? ended : board).rows.focus(run),
});
const openJob = (/** @type {AnyJob} */ job) => navigation.openJob(job);
const changed = () => renderer.changed();
const find = (/** @type {string} */ run) => rooms.find(run);

const signIn = new SignIn(signedIn);
const menu = new Menu({
  rename,
  signOut: () => signIn.out(),
  help: () => byId("help", HTMLDialogElement).showModal(),
});
const statusLine = new StatusLine({ retry: () => connection?.open() });
const toolbar = new Toolbar((part) => navigation.go(part, { push: "view" in part }));
const kills = new Kills({ command, changed });
const watches = new Watches(openJob);
const start = new Start({ command, open: openJob });
const board = new Board({
  changed,
  find,
  open: openJob,
  kill: (jobs) => signIn.operator && kills.ask(jobs),
  lookOf: (job) => kills.lookOf(job),
});
const ended = new Ended({ command, changed, open: openJob });
const detail = new Detail({
  command,
  watches,
  find: (room, connid, run) => rooms.findJob(room, connid, run),
  open: openJob,
  close: () => navigation.closeJob(),
  kill: (jobs) => kills.ask(jobs),
  again: (job) => start.fill(job),
});
const timeline = new Timeline({ open: openJob });
const charts = new Charts();
const tabs = new RoomTabs({
  command: (name) => command(name, { room: navigation.view.rooms[0] }),
  show: (only) => navigation.go({ only }, { push: true }),
  open: (room) => navigation.openRoom(room),
  close: (room) => navigation.closeRoom(room),
});
const feed = new ChartsFeed({ rooms, command, now });
const renderer = new Renderer({
  navigation,
  rooms,
  feed,
  views: { board, ended, timeline, charts, detail, kills, tabs, toolbar, statusLine },
  server: {
    now,
    live: () => connection?.status.line === "live",
    refusalOf: (room) => connection?.refusalOf(room) ?? null,
    notice,
  },
});

listenToKeys({
  enabled: () => menu.singleKeys,
  commands: shortcuts({ navigation, board, ended, detail, kills, start, signIn, watches, changed }),
});
byId("all-ended").addEventListener("click", () => navigation.go({ view: "ended", state: "" }, { push: true }));
byId("curl").textContent = `curl -d '{"connid": "import", "time": 90}' ${location.origin}/api/jobs`;
showMenu();
navigation.start();
whenClientLoaded(connect, sayClientMissing);
whenIdle(() => charts.load());

// The connection

/** @param {import("../follow/connection.js").Io} io */
function connect(io) {
  connection = new Connection({
    io,
    credentials: () => ({ name: recall("name") || undefined, token: signIn.token || undefined }),
    onEvent: receive,
    onChange: showStatus,
  });
  rooms.connect(connection);
  connection.open();
  onWaking(wake);
}

/**
 * @param {string} name
 * @param {any} event
 */
function receive(name, event) {
  if (name === "output") {
    detail.hear(event);
    return;
  }
  if (name === "extended") detail.learn(event);
  renderer.heard();
  if (watches.has(event.run) && (name === "killed" || name === "finished")) watches.follow(find);
}

function showStatus() {
  if (!connection) return;
  const { status } = connection;
  statusLine.show(status);
  if (status.line === "live") {
    signIn.hide();
    kills.forgetUnsent();
    watches.follow(find);
    detail.reload();
    feed.backfill();
  }
  if (status.refusal?.code === "unauthorized") signIn.ask(whySignIn(status.refusal, signIn.token));
  else if (status.line === "offline") signIn.hide();
  showMenu();
  changed();
}

/** What is wrong, as a sentence; "" for nothing. */
function notice() {
  if (!connection) return clientMissing ? CLIENT_MISSING : "";
  const { status } = connection;
  if (signIn.asking) return "";
  if (status.line === "refused" && status.refusal) return refusedNotice(status.refusal);
  if (status.since) return offlineNotice(status.since, status.refusal, rooms.all().some((state) => state.known));
  return roomsNotice(navigation.view.wrong, rooms.all().map(refused));
}

/**
 * @param {import("../follow/state.js").RoomState} state
 * @returns {[string, CommandError | null]}
 */
const refused = ({ room }) => [room, connection?.refusalOf(room) ?? null];

function wake() {
  if (connection?.connected) connection.check();
  else if (connection?.status.line === "offline") connection.open();
  changed();
}

function sayClientMissing() {
  if (connection) return;
  clientMissing = true;
  statusLine.show({ line: "missing" });
  changed();
}

/** Now by the server's clock, in seconds; by ours until there is a connection. */
function now() {
  return connection?.serverNow() ?? Date.now() / 1000;
}

/**
 * @param {string} name
 * @param {object} [data]
 */
async function command(name, data) {
  if (connection) return connection.command(name, data);
  throw new CommandError({ code: "offline", message: "Not connected, so nothing was sent." });
}

// Who the reader is

/** @param {string} name */
function rename(name) {
  if (name === recall("name")) return;
  keep("name", name);
  reopen();
}

function reopen() {
  connection?.reopen();
  showMenu();
}

/** Somebody else may be here now: what the one before was shown is forgotten. */
function signedIn() {
  connection?.close();
  rooms.closeAll();
  for (const part of [board, ended, watches]) part.forget();
  detail.hide();
  unsay();
  navigation.start();
  reopen();
}

function showMenu() {
  menu.show({ name: recall("name"), claims: signIn.claims });
  document.body.dataset.role = signIn.operator ? "operator" : "viewer";
}

// The view

/**
 * @param {View} view
 * @param {View} before
 */
function showView(view, before) {
  rooms.open(view.rooms);
  toolbar.show(view);
  start.showRooms(view.rooms, view.only || view.rooms[0]);
  if (view.only && view.only !== before.only) start.choose(view.only);
  if (view.job) detail.show({ room: view.in || view.rooms[0], connid: view.job, run: view.run });
  else detail.hide();
  changed();
}
