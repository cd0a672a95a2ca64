import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { io } from "socket.io-client";
import { CommandError, follow } from "../../client/follow/follow.js";
import { eventually, serve, tokenOf } from "./server.mjs";

function following(t, url, options = {}) {
  const room = follow("main", { io, url, name: "ana", ...options });
  t.after(() => room.close());
  return room;
}

const names = (jobs) => jobs.map(({ connid }) => connid);

test("a room is followed through starts, reports and ends", async (t) => {
  const server = await serve(t);
  const room = following(t, server.url);
  const told = [];
  room.subscribe(() => told.push([room.live, names(room.running), names(room.ended)].join(" ")));
  assert.deepEqual(told, ["false  "], "it is told at once how things stand");
  await eventually(() => room.live);
  const { job } = await room.command("request", { connid: "a", time: 60 });
  await eventually(() => room.running.length === 1);
  assert.ok(room.remaining(room.running[0]) > 50 && room.remaining(room.running[0]) <= 60);
  const [before] = room.running;
  await room.command("progress", { connid: "a", run: job.run, done: 0.5 });
  await eventually(() => room.running[0].progress?.done === 0.5);
  assert.equal(before.progress, null, "a job is never changed in place");
  await room.command("kill", { connid: "a", reason: "enough" });
  await eventually(() => room.ended.length === 1);
  assert.deepEqual([room.ended[0].reason, room.ended[0].by], ["enough", "ana"]);
  await eventually(() => room.presence?.watching === 1);
  await eventually(() => told.at(-1) === "true  a");
});

test("after an outage it is right again by itself, and says so", async (t) => {
  const server = await serve(t);
  const room = following(t, server.url);
  const other = following(t, server.url);
  await eventually(() => room.live && other.live);
  await room.command("request", { connid: "a", time: 60 });
  await server.kill();
  await eventually(() => !room.live);
  assert.equal(room.status.line, "offline");
  assert.deepEqual(names(room.running), ["a"], "the last state stays");
  const refused = await room.command("kill", { connid: "a" }).catch((error) => error);
  assert.ok(refused instanceof CommandError);
  assert.equal(refused.code, "offline");
  await server.start();
  await other.check();
  await eventually(() => other.live);
  await other.command("request", { connid: "b", time: 60 });
  await eventually(() => room.live && room.running.length === 2);
  assert.deepEqual(names(room.running), ["b", "a"]);
});

test("who has ended it is told of no more changes", async (t) => {
  const server = await serve(t);
  const room = following(t, server.url);
  let calls = 0;
  const end = room.subscribe(() => (calls += 1));
  await eventually(() => room.live);
  end();
  const before = calls;
  await room.command("request", { connid: "a", time: 60 });
  await eventually(() => room.running.length === 1);
  assert.equal(calls, before);
  room.subscribe(() => (calls += 1));
  assert.equal(calls, before + 1);
  room.close();
  assert.equal(room.live, false);
});

test("a server that lets nobody in without a token says why, and takes the next one", async (t) => {
  const secret = "a secret of the tests that is long enough";
  const server = await serve(t, { AUTH_SECRET: secret });
  let token = "none";
  const room = following(t, server.url, { token: () => token });
  await eventually(() => room.refusal);
  assert.deepEqual([room.live, room.refusal.code, room.status.line], [false, "unauthorized", "refused"]);
  token = await tokenOf(secret, "bo");
  await room.check();
  await eventually(() => room.live);
  assert.equal(room.refusal, null);
});

test("the example in the documentation runs", async (t) => {
  const server = await serve(t);
  const [, example] = /```js\n(.*?)```/s.exec(readFileSync("docs/follow.md", "utf8"));
  const code = example
    .replace("./follow/follow.js", new URL("../../client/follow.js", import.meta.url).href)
    .replace("http://127.0.0.1:8000", server.url);
  const program = spawn("node", ["--input-type=module", "--eval", code], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => program.kill());
  const lines = [];
  createInterface({ input: program.stdout }).on("line", (line) => lines.push(line));
  await eventually(() => lines.includes("live: nothing"));
  await server.ask("request", { connid: "a", time: 60 });
  await eventually(() => lines.at(-1) === "live: a (60 s)");
});
