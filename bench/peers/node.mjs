// The service on Socket.IO for Node, as its documentation shows it.
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { Server } from "socket.io";

const ROOM = "main";
const EPOCH = randomBytes(8).toString("hex");

const http = createServer();
const io = new Server(http, await shared());
const running = new Map();
const timeouts = new Map();
const ended = [];
let seq = 0;

io.on("connection", (socket) => {
  if ((socket.handshake.auth.rooms ?? [ROOM]).includes(ROOM)) {
    socket.join(ROOM);
    const jobs = { running: [...running.values()], ended };
    socket.emit("snapshot", { room: ROOM, epoch: EPOCH, seq, now: Date.now() / 1000, ...jobs });
  }
  socket.on("request", (data, answer) => answer(request(data)));
  socket.on("kill", (data, answer) => answer(kill(data)));
});

// With several servers they tell each other through Redis streams.
async function shared() {
  if (!process.env.REDIS_URL) return {};
  const { createAdapter } = await import("@socket.io/redis-streams-adapter");
  const { createClient } = await import("redis");
  const client = createClient({ url: process.env.REDIS_URL });
  client.on("error", () => {}); // It connects again by itself.
  await client.connect();
  return { adapter: createAdapter(client) };
}

function request({ connid, time, note = null }) {
  if (running.has(connid)) {
    return { ok: false, error: { code: "conflict" }, job: running.get(connid) };
  }
  const now = Date.now() / 1000;
  const run = randomBytes(12).toString("hex");
  const job = {
    connid, run, room: ROOM, state: "running", time, started_at: now, deadline: now + time,
    by: "anonymous", note, progress: null, lease: null,
  };
  running.set(connid, job);
  timeouts.set(connid, setTimeout(timeOut, time * 1000, job));
  tell("started", now, { job });
  return { ok: true, result: "started", room: ROOM, epoch: EPOCH, seq, job };
}

function kill({ connid, reason = null }) {
  const job = running.get(connid);
  if (job === undefined) {
    return { ok: false, error: { code: "not_running" } };
  }
  clearTimeout(timeouts.get(connid));
  end(job, "killed", { by: "anonymous", via: "socket", reason });
  return { ok: true, result: "killed", room: ROOM, epoch: EPOCH, seq, job };
}

function timeOut(job) {
  end(job, "finished", { outcome: "elapsed", result: null });
}

function end(job, state, how) {
  const now = Date.now() / 1000;
  running.delete(job.connid);
  timeouts.delete(job.connid);
  Object.assign(job, { started_by: job.by, ended_at: now }, how, { state });
  ended.push(job);
  if (ended.length > 50) ended.shift();
  tell(state, now, { connid: job.connid, run: job.run, ...how });
}

function tell(event, at, fields) {
  seq += 1;
  io.to(ROOM).emit(event, { room: ROOM, seq, at, ...fields });
}

http.listen(Number(process.argv[2]), "127.0.0.1");
