/**
 * The dashboard: wires the connection and the state of each room to what is seen, and back.
 *
 * Loaded by index.html, which also loads the Socket.IO client (the global `io`). What is shown comes
 * from the address (address.js): rooms, view, search, order, and the job that is open.
 */

import { read, USUAL, write } from "../models/address.js";
import { Board } from "../views/board.js";
import { Charts } from "../views/charts.js";
import { whenClientLoaded, whenIdle } from "../browser/socketio-loader.js";
import { CommandError, Connection } from "../follow/connection.js";
import { Detail } from "../views/detail.js";
import { byId } from "../browser/dom.js";
import { Ended } from "../views/ended.js";
import { listenToKeys } from "../views/keys.js";
import { Kills } from "../views/kills.js";
import { Line } from "../views/status-line.js";
import { keep, recall } from "../browser/storage.js";
import { Menu } from "../views/menu.js";
import { CLIENT_MISSING, offlineNotice, refusedNotice, roomsNotice, whySignIn } from "../models/notices.js";
import { Watches } from "../views/notify.js";
import { FrameTimer } from "../browser/frame-timer.js";
import { matcher } from "../models/query.js";
import { Rooms } from "../views/room-tabs.js";
import { SignIn } from "../views/signin.js";
import { Start } from "../views/start.js";
import { RoomState } from "../follow/state.js";
import { Timeline } from "../views/timeline.js";
import { say, unsay } from "../views/toasts.js";
import { Toolbar } from "../views/toolbar.js";
import { series, Trend } from "../models/trend.js";
import { onWaking } from "../browser/wake.js";
import { count } from "../models/format.js";

const ENDED_KEPT = 1_000;
const PAST_LEARNED = 500;
const EVENTS_A_COUNT = 200;
const HIDDEN_DRAW_MS = 1_000;

let view = read(location.search);
let connection = null;
let changed = true; // since the last draw
let drawAfter = 0; // no draw before that, by performance.now(): drawing must leave time for the rest
let secondAt = 0; // when what is done once a second was done last
let heard = 0;
let returnTo = null; // what had the focus before a job was opened
const states = new Map(); // room -> RoomState, of the open rooms
const trends = new Map(); // room -> Trend

const still = matchMedia("(prefers-reduced-motion: reduce)");
const signIn = new SignIn(signedIn);
const menu = new Menu({ rename, signOut: () => signIn.out(), help: () => byId("help").showModal() });
const line = new Line({ retry: () => connection?.open() });
const toolbar = new Toolbar((part) => go(part, { push: "view" in part }));
const kills = new Kills({ command, changed: touch });
const watches = new Watches(openJob);
const start = new Start({ command, open: openJob });
const board = new Board({
  changed: touch,
  find,
  linkOf,
  open: openJob,
  kill: (jobs) => signIn.operator && kills.ask(jobs),
  lookOf: (job) => kills.lookOf(job),
});
const ended = new Ended({ command, changed: touch, open: openJob, linkOf });
const detail = new Detail({
  command,
  linkOf,
  watches,
  find: findJob,
  open: openJob,
  close: closeJob,
  kill: (jobs) => kills.ask(jobs),
  again: (job) => start.fill(job),
});
const timeline = new Timeline({ open: openJob });
const charts = new Charts();
const rooms = new Rooms({
  command: (name) => command(name, { room: view.rooms[0] }),
  show: (only) => go({ only }, { push: true }),
  open: (room) => go({ rooms: [...new Set([...view.rooms, room])], only: room }, { push: true }),
  close: closeRoom,
});
const timer = new FrameTimer(frame);

listenToKeys({ enabled: () => menu.singleKeys, commands: keyCommands() });
addEventListener("popstate", () => show(read(location.search)));
byId("all-ended").addEventListener("click", () => go({ view: "ended", state: "" }, { push: true }));
byId("curl").textContent = `curl -d '{"connid": "import", "time": 90}' ${location.origin}/api/jobs`;
showMenu();
show(view);
whenClientLoaded(connect, sayClientMissing);
timer.schedule(0);
whenIdle(() => charts.load());

// The line

function connect(io) {
  connection = new Connection({
    io,
    credentials: () => ({ name: recall("name") || undefined, token: signIn.token || undefined }),
    onEvent: receive,
    onChange: showLine,
  });
  for (const state of states.values()) connection.follow(state);
  connection.open();
  onWaking(wake);
  // No frames come while the page is hidden, but its title still counts the jobs.
  setInterval(() => document.hidden && changed && drawTitle(), HIDDEN_DRAW_MS);
}

function receive(name, event) {
  if (name === "output") return detail.hear(event);
  const { run } = event;
  touch();
  if (++heard % EVENTS_A_COUNT === 0) followTrends();
  if (watches.has(run) && (name === "killed" || name === "finished")) watches.follow(find);
  return undefined;
}

function showLine() {
  const { status } = connection;
  line.show(status);
  if (status.line === "live") {
    signIn.hide();
    kills.forgetUnsent();
    watches.follow(find);
    detail.reload();
    learnPast();
  }
  if (status.refusal?.code === "unauthorized") signIn.ask(whySignIn(status.refusal, signIn.token));
  else if (status.line === "offline") signIn.hide();
  showMenu();
  touch();
}

function notice() {
  const { status } = connection;
  if (signIn.asking) return "";
  if (status.line === "refused") return refusedNotice(status);
  const known = [...states.values()].some((state) => state.known);
  if (status.since) return offlineNotice(status, known);
  return roomsNotice(view.wrong, [...states.keys()].map((room) => [room, connection.refusalOf(room)]));
}

function wake() {
  if (connection.connected) connection.check();
  else if (connection.status.line === "offline") connection.open();
  touch();
}

function sayClientMissing() {
  line.show({ line: "missing" });
  line.notice(CLIENT_MISSING);
}

async function command(name, data) {
  if (connection) return connection.command(name, data);
  throw new CommandError({ code: "offline", message: "Not connected, so nothing was sent." });
}

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
  for (const room of states.keys()) connection?.unfollow(room);
  states.clear();
  trends.clear();
  for (const part of [board, ended, watches]) part.forget();
  detail.hide();
  unsay();
  show(view);
  reopen();
}

function showMenu() {
  menu.show({ name: recall("name"), claims: signIn.claims });
  document.body.dataset.role = signIn.operator ? "operator" : "viewer";
}

// The view

/** Show another view, and have the address say so; `push` leaves a way back. */
function go(part, { push = false } = {}) {
  const next = { ...view, ...part, wrong: [] };
  const address = location.pathname + write(next);
  if (push) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
  show(next);
}

function show(next) {
  const before = view;
  view = next;
  followRooms();
  toolbar.show(view);
  start.showRooms(view.rooms, view.only || view.rooms[0]);
  if (view.only && view.only !== before.only) start.choose(view.only);
  if (view.job) detail.show({ room: view.in || view.rooms[0], connid: view.job, run: view.run });
  else detail.hide();
  touch();
}

function closeRoom(room) {
  const rooms = view.rooms.filter((other) => other !== room);
  const only = rooms.length > 1 && view.only !== room ? view.only : "";
  const job = view.in === room ? { job: "", run: "", in: "" } : {};
  go({ rooms, only, ...job }, { push: true });
}

function followRooms() {
  for (const room of states.keys()) {
    if (view.rooms.includes(room)) continue;
    states.delete(room);
    trends.delete(room);
    connection?.unfollow(room);
  }
  for (const room of view.rooms) {
    if (states.has(room)) continue;
    states.set(room, new RoomState(room, { endedLimit: ENDED_KEPT }));
    trends.set(room, new Trend());
    connection?.follow(states.get(room));
  }
}

/** The address that shows a job to whoever opens it. */
function linkOf({ room, connid, run }) {
  return write({ ...USUAL, rooms: [room], job: connid, run: run ?? "" });
}

function openJob({ room, connid, run }) {
  returnTo = document.activeElement?.closest("[data-run]")?.dataset.run ?? returnTo;
  const rooms = [...new Set([...view.rooms, room])];
  go({ rooms, job: connid, run, in: room }, { push: true });
  detail.takeFocus();
}

function closeJob() {
  go({ job: "", run: "", in: "" }, { push: true });
  const rows = view.view === "ended" ? ended.rows : board.rows;
  if (returnTo) rows.focus(returnTo);
  returnTo = null;
}

function find(run) {
  for (const state of states.values()) {
    const job = state.find(run);
    if (job) return job;
  }
  return undefined;
}

/** The job of a name, and of a run where one is given. */
function findJob(room, connid, run) {
  if (run) return find(run);
  const state = states.get(room);
  return state?.running().find((job) => job.connid === connid) ?? state?.ended().find((job) => job.connid === connid);
}

// Drawing

/** Something is different: it will be drawn with the next frame. */
function touch() {
  changed = true;
  timer.schedule(0);
}

/** Returns the seconds until something will look different by itself. */
function frame() {
  const begun = performance.now();
  if (changed && begun >= drawAfter) {
    changed = false;
    draw();
    // Many jobs take longer to draw; the page stays quick by drawing them less often.
    drawAfter = performance.now() + 2 * (performance.now() - begun);
  }
  const now = connection?.serverNow() ?? Date.now() / 1000;
  const waits = [detail.tick(now), line.tick()];
  if (view.view === "running") waits.push(board.tick(now, still.matches));
  if (view.view === "timeline") waits.push(timeline.tick(now));
  if (begun - secondAt >= 1000) eachSecond(begun, now);
  waits.push((secondAt + 1000 - begun) / 1000);
  if (changed) waits.push(0.001);
  return Math.min(...waits);
}

function draw() {
  const shown = shownStates();
  const running = shown.flatMap((state) => state.running());
  const known = shown.some((state) => state.known);
  const filtered = view.search !== "" || view.by !== "" || view.state !== "";
  const look = { view, several: shown.length > 1, filtered, known };
  kills.keep((run) => find(run)?.state === "running");
  rooms.draw([...states.values()], { only: view.only, refusalOf: (room) => connection?.refusalOf(room) });
  if (view.view === "running") board.draw(running, { ...look, find, total: running.length });
  ended.draw(shown, { ...look, shown: view.view === "ended" });
  if (view.view === "timeline") showTimeline(shown, running);
  detail.draw();
  toolbar.showNumber(known ? running.length.toLocaleString("en") : "");
  line.showPresence(shown.map((state) => state.presence));
  if (connection) line.notice(notice());
  showEmptiness({ running, known, filtered });
}

function showEmptiness({ running, known, filtered }) {
  const empty = byId("running").hidden;
  const coming = ["connecting", "catching-up"].includes(document.body.dataset.line);
  byId("running-waiting").hidden = known || !coming;
  byId("running-empty").hidden = !known || running.length > 0;
  byId("running-none").hidden = !known || running.length === 0 || !empty;
  if (filtered) byId("running-none").querySelector(".text").textContent = `${count(running.length, "job")} in all.`;
  document.body.classList.toggle("signing-in", signIn.asking);
}

function showTimeline(shown, running) {
  const jobs = [...running, ...shown.flatMap((state) => state.ended())].filter(matcher(view));
  timeline.show(jobs, view);
}

function drawTitle() {
  const shown = shownStates();
  const running = shown.reduce((sum, state) => sum + state.size, 0);
  const title = `${running ? `(${running}) ` : ""}Hourglass · ${shown.map(({ room }) => room).join(", ")}`;
  if (document.title !== title) document.title = title;
}

function followTrends() {
  // What is not known is a gap in the charts.
  if (connection?.status.line !== "live") return;
  const now = connection.serverNow();
  for (const [room, trend] of trends) trend.follow(states.get(room), now);
}

function eachSecond(begun, now) {
  secondAt = begun;
  drawTitle();
  followTrends();
  const shown = shownStates();
  charts.draw(series(shown.map(({ room }) => trends.get(room)), now));
  toolbar.offer(shown.flatMap((state) => (view.view === "ended" ? state.ended() : state.running())), view);
}

/** Ask once for ended jobs that no snapshot tells of, so that the charts begin in the past. */
function learnPast() {
  followTrends();
  for (const [room, trend] of trends) {
    if (trend.learned) continue;
    const asking = command("history", { room, limit: PAST_LEARNED });
    asking.then((answer) => trends.get(room) === trend && trend.learn(states.get(room), answer)).catch(() => {});
  }
}

function shownStates() {
  return view.only ? [states.get(view.only)] : [...states.values()];
}

// Keys

function keyCommands() {
  const rows = () => (view.view === "ended" ? ended.rows : board.rows);
  const walk = (by) => (press) => {
    const inList = rows().focused || press.target === document.body || press.target.id === "detail-title";
    if (!inList || view.view === "timeline") return false;
    rows().move(by(rows()));
    return true;
  };
  const active = () => (board.rows.focused ? board.rows.active : null);
  return {
    search: () => byId("search").focus(),
    start: () => signIn.operator && start.focus(),
    down: walk(() => 1),
    up: walk(() => -1),
    pageDown: walk((list) => list.page),
    pageUp: walk((list) => -list.page),
    first: walk(() => -Infinity),
    last: walk(() => Infinity),
    open: () => rows().active && openJob(rows().active),
    select: () => signIn.operator && active() && board.toggle(active()),
    reach: () => signIn.operator && active() && board.toggle(active(), true),
    selectAll: () => signIn.operator && view.view === "running" && board.selectAll(),
    kill: () => {
      if (!signIn.operator) return;
      if (detail.focused && detail.job) kills.ask([detail.job]);
      else if (view.view === "running") board.killSelected();
    },
    watch: () => watchActive(active() ?? detail.job),
    running: () => go({ view: "running", state: "" }, { push: true }),
    ended: () => go({ view: "ended", state: "" }, { push: true }),
    timeline: () => go({ view: "timeline", state: "" }, { push: true }),
    escape: (press) => {
      if (view.job) closeJob();
      else if (press.target.id === "search") press.target.blur();
      else if (board.selection.size > 0) board.clearSelection();
      else return false;
      return true;
    },
    help: () => byId("help").showModal(),
  };
}

async function watchActive(job) {
  if (job?.state !== "running") return;
  say(`${job.connid}: ${await watches.toggle(job)}`);
  touch();
}
