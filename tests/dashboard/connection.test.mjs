import assert from "node:assert/strict";
import { test } from "node:test";
import { io } from "socket.io-client";
import { Clock, Connection } from "../../client/follow/connection.js";
import { roomsNotice } from "../../client/models/notices.js";
import { RoomState } from "../../client/follow/state.js";
import { eventually, serve, serveRedis } from "./server.mjs";

function follower(t, url, rooms = ["main"], more = {}) {
  const lines = [];
  const states = rooms.map((room) => new RoomState(room));
  const connection = new Connection({
    ...{ io, url, credentials: () => ({ name: "ana" }), ...more },
    onChange: () => lines.push(connection.status.line),
  });
  for (const state of states) connection.follow(state);
  connection.open();
  t.after(() => connection.close());
  return { connection, states, lines, state: states[0], live: () => connection.status.line === "live" };
}

const names = (state) => state.running().map(({ connid }) => connid);
const REQUEST = { connid: "a", time: 60, room: "main" };

test("a line comes up by itself, and is live when every room is complete", async (t) => {
  const server = await serve(t);
  await server.ask("request", REQUEST);
  const { states, lines, live, connection } = follower(t, server.url, ["main", "ops"]);
  await eventually(live);
  assert.deepEqual(lines, ["catching-up", "live"]);
  assert.deepEqual(states.map(names), [["a"], []]);
  assert.ok(Math.abs(connection.serverNow() - Date.now() / 1000) < 1);
});

test("a command is answered, or refused with what the server says", async (t) => {
  const server = await serve(t);
  const { connection, state, live } = follower(t, server.url);
  await eventually(live);
  const { job } = await connection.command("request", REQUEST);
  await eventually(() => state.find(job.run));
  assert.equal(state.find(job.run).by, "ana");
  const conflict = await connection.command("request", REQUEST).catch((error) => error);
  assert.deepEqual([conflict.code, conflict.job.run], ["conflict", job.run]);
  const invalid = await connection.command("request", { ...REQUEST, time: -1 }).catch((error) => error);
  assert.deepEqual([invalid.code, invalid.field], ["invalid", "time"]);
});

test("an outage is told with its beginning and the next attempt, and made up for", async (t) => {
  const server = await serve(t);
  const { connection, state, lines, live } = follower(t, server.url);
  await eventually(live);
  await connection.command("request", REQUEST);
  await server.kill();
  await eventually(() => connection.status.line === "offline");
  const { since, retryAt } = connection.status;
  assert.ok(Math.abs(since - Date.now()) < 2_000);
  assert.ok(retryAt > since && retryAt < since + 1_100);
  const refused = await connection.command("kill", { connid: "a" }).catch((error) => error);
  assert.equal(refused.code, "offline");
  await eventually(() => connection.status.retryAt > retryAt + 100 && connection.status.line === "offline");
  assert.equal(connection.status.since, since, "it is offline since the first break");
  await server.start();
  await server.ask("request", { ...REQUEST, connid: "b" });
  connection.open();
  await eventually(live);
  assert.deepEqual(names(state), ["b", "a"]);
  assert.equal(connection.status.since, undefined);
  assert.deepEqual(lines.slice(-2), ["catching-up", "live"]);
});

test("what was given while the line was down never comes through later", async (t) => {
  const server = await serve(t);
  const { connection, state, live } = follower(t, server.url);
  await eventually(live);
  await connection.command("request", REQUEST);
  const killed = server.kill();
  const tries = [];
  while (connection.connected) {
    tries.push(connection.command("kill", { connid: "a" }).catch((error) => error.code));
    await new Promise(setImmediate);
  }
  await killed;
  for (const code of await Promise.all(tries)) assert.ok(["offline", "no_answer"].includes(code), code);
  await server.start();
  connection.open();
  await eventually(live);
  await connection.command("request", { ...REQUEST, connid: "b" });
  await eventually(() => names(state).includes("b"));
});

test("rooms are followed and left while the line is up", async (t) => {
  const server = await serve(t);
  const { connection, state, live } = follower(t, server.url);
  await eventually(live);
  const ops = new RoomState("ops");
  connection.follow(ops);
  await eventually(() => ops.known);
  connection.unfollow("ops");
  await connection.command("request", { ...REQUEST, room: "ops" });
  await connection.command("request", REQUEST);
  await eventually(() => names(state).includes("a"));
  assert.deepEqual(names(ops), []);
});

test("a hole is closed by asking again", async (t) => {
  const server = await serve(t);
  const { connection, state, live } = follower(t, server.url);
  await eventually(live);
  const apply = state.apply.bind(state);
  let lose = 2;
  state.apply = (name, event) => (name === "started" && lose-- > 0 ? "ignored" : apply(name, event));
  for (const connid of ["a", "b", "c"]) await connection.command("request", { ...REQUEST, connid });
  await eventually(() => state.size === 3 && live());
  assert.deepEqual(names(state), ["c", "b", "a"]);
});

test("a line that carries nothing is given up and opened again", async (t) => {
  const server = await serve(t);
  const { connection, live } = follower(t, server.url);
  await eventually(live);
  await connection.check();
  assert.ok(live(), "a line that carries is left alone");
  const engines = [];
  const deaf = follower(t, server.url, ["main"], {
    io: (...options) => {
      const made = io(...options);
      made.io.on("open", () => engines.push(made.io.engine));
      return made;
    },
  });
  await eventually(deaf.live);
  engines[0].write = () => engines[0];
  await deaf.connection.check();
  await eventually(deaf.live);
  assert.equal(engines.length, 2);
});

test("without the token that is needed, the refusal is told and not tried again", async (t) => {
  const server = await serve(t, { AUTH_SECRET: "a secret of the tests that is long enough" });
  const { connection, lines } = follower(t, server.url);
  await eventually(() => connection.status.line === "refused");
  assert.equal(connection.status.refusal.code, "unauthorized");
  assert.deepEqual(lines, ["refused"]);
});

for (const code of ["unavailable", "rate_limited", "internal"]) {
  test(`the line is not live while a join is refused as ${code}`, async (t) => {
    const server = await serve(t);
    let refusing = null;
    const { connection, lines, live, state } = follower(t, server.url, ["main"], {
      io: (...options) => refusingJoins(io(...options), () => refusing),
    });
    await eventually(live);
    refusing = { ok: false, error: { code, message: "not now" } };
    connection.reopen();
    await eventually(() => connection.status.refusal?.code === code);
    assert.equal(connection.status.line, "catching-up");
    assert.ok(roomsNotice([], [["main", connection.refusalOf("main")]]).includes("keeps trying"));
    await server.ask("request", REQUEST);
    refusing = null;
    await eventually(live);
    assert.deepEqual(names(state), ["a"]);
    assert.deepEqual(lines.slice(2), ["connecting", "catching-up", "catching-up", "live"]);
  });
}

/** A socket whose joins are answered `refusal()`, where that is something. */
function refusingJoins(socket, refusal) {
  const timeout = socket.timeout.bind(socket);
  socket.timeout = (within) => {
    const real = timeout(within);
    const emitWithAck = (name, data) =>
      name === "join" && refusal() ? Promise.resolve(refusal()) : real.emitWithAck(name, data);
    return { emitWithAck };
  };
  return socket;
}

test("a room that is closed to us is forgotten, and the line is live", async (t) => {
  const server = await serve(t);
  await server.ask("request", REQUEST);
  const forbidden = { ok: false, error: { code: "forbidden", message: "not for you" } };
  let refusing = null;
  const { connection, lines, live, state } = follower(t, server.url, ["main"], {
    io: (...options) => refusingJoins(io(...options), () => refusing),
  });
  await eventually(live);
  assert.deepEqual(names(state), ["a"]);
  refusing = forbidden;
  connection.reopen();
  await eventually(live);
  assert.deepEqual([names(state), state.known, state.presence], [[], false, null]);
  assert.equal(roomsNotice([], [["main", connection.refusalOf("main")]]), "The room main is not open to you: not for you.");
  assert.deepEqual(lines.slice(2), ["connecting", "catching-up", "live"]);
  refusing = null;
  connection.reopen();
  await eventually(() => live() && state.size === 1);
});

test("while the server has lost its store the line is not live", async (t) => {
  const redis = await serveRedis(t);
  const server = await serve(t, { REDIS_URL: redis.url, REDIS_HEARTBEAT: "0.1", REDIS_DEAF: "0.3" });
  const { state, live } = follower(t, server.url);
  await eventually(live);
  redis.process.kill("SIGSTOP");
  await eventually(() => !live());
  redis.process.kill("SIGCONT");
  await eventually(live);
  await server.ask("request", REQUEST);
  await eventually(() => names(state).length === 1);
});

const HOUR = 3600;

test("the server's clock is counted on, whatever the date becomes", (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: 1_700_000_000_000 });
  let steady = 5_000;
  const clock = new Clock(() => steady);
  clock.learn(1_700_000_100, steady);
  for (const date of [1_700_000_000_000 + HOUR * 1000, 1_700_000_000_000 - HOUR * 1000]) {
    t.mock.timers.setTime(date);
    assert.equal(clock.now(), 1_700_000_100);
  }
  steady += 7_000;
  assert.equal(clock.now(), 1_700_000_107);
});

test("each answer narrows down what the server's clock says", () => {
  let steady = 0;
  const clock = new Clock(() => steady);
  const ask = (there, back, at) => {
    const sent = steady;
    steady = sent + there + back;
    clock.learn(at(sent + there), sent);
  };
  const right = (mine) => (mine + 42_000) / 1000;
  ask(900, 100, right);
  assert.ok(Math.abs(clock.now() - right(steady)) <= 0.5);
  ask(5, 15, right);
  assert.ok(Math.abs(clock.now() - right(steady)) <= 0.01);
  ask(9_000, 1_000, right);
  assert.ok(Math.abs(clock.now() - right(steady)) <= 0.01, "a slow answer spoils nothing");
});

for (const step of [HOUR, -HOUR]) {
  test(`a clock that is another by ${step} s is taken from the next answer, however slow`, () => {
    let steady = 0;
    const clock = new Clock(() => steady);
    clock.learn(1000, 0);
    steady += 4_000;
    clock.learn(1002 + step, 0); // Sent at 0, told halfway, received now.
    assert.ok(Math.abs(clock.now() - (1004 + step)) <= 2);
  });
}

test("what has happened is not still to come", () => {
  let steady = 0;
  const clock = new Clock(() => steady);
  clock.learn(1000, 0);
  steady += 1_000; // The computer has slept, and our clock with it.
  clock.learn(1000 + HOUR);
  assert.equal(clock.now(), 1000 + HOUR);
  clock.learn(1000);
  clock.learn(undefined);
  clock.learn("soon");
  assert.equal(clock.now(), 1000 + HOUR);
});

test("count-downs are right while the date here is set", async (t) => {
  const server = await serve(t);
  const { connection, state, live } = follower(t, server.url);
  await eventually(live);
  const { job } = await connection.command("request", REQUEST);
  await eventually(() => state.find(job.run));
  const left = () => job.deadline - connection.serverNow();
  const real = Date.now;
  t.after(() => (Date.now = real));
  for (const step of [HOUR * 1000, -HOUR * 1000]) {
    Date.now = () => real() + step;
    assert.ok(left() > 30 && left() <= 60.1, `${left()}`);
    // The Socket.IO client takes a date that is far ahead for a ping that did not come, and connects anew.
    await connection.check();
    connection.open();
    await eventually(live);
    assert.ok(left() > 30 && left() <= 60.1, `${left()}`);
  }
});

test("count-downs are right after a server comes back with another date", async (t) => {
  const server = await serve(t);
  const { connection, live } = follower(t, server.url);
  await eventually(live);
  const before = connection.serverNow();
  await server.kill();
  await server.start(-24 * HOUR);
  connection.open();
  await eventually(live);
  assert.ok(Math.abs(connection.serverNow() - (before - 24 * HOUR)) < 30);
  await server.kill();
  await server.start();
  connection.open();
  await eventually(live);
  assert.ok(Math.abs(connection.serverNow() - before) < 60);
});
