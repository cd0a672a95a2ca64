import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer, connect as dial } from "node:net";
import { createInterface } from "node:readline";
import { before, after, test } from "node:test";
import { io } from "socket.io-client";
import { follow } from "../../client/follow.js";
import { job } from "../../client/job.js";
import { eventually, serve, tokenOf, until } from "./server.mjs";

const RUNTIMES = { node: [process.execPath], bun: ["node_modules/.bin/bun"] };
const PROGRAM = "tests/dashboard/job-program.mjs";

/** One server for all tests that do not end it: each has a room of its own. */
let server;
const ends = [];
before(async () => (server = await serve({ after: (end) => ends.push(end) })));
after(async () => {
  for (const end of ends) await end();
});

let rooms = 0;
const newRoom = () => `room-${++rooms}`;

/** A test in each runtime. */
function inEach(name, body) {
  for (const runtime of Object.keys(RUNTIMES)) test(`${name} (${runtime})`, (t) => body(t, runtime));
}

function program(t, runtime, scenario, url, options = {}) {
  const [command, ...first] = RUNTIMES[runtime];
  const args = [...first, PROGRAM, scenario, url, JSON.stringify(options)];
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  const lines = [];
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  const ended = new Promise((resolve) => child.once("close", (code) => resolve(code)));
  return { lines, ended, tell: (line) => child.stdin.write(`${line}\n`), child };
}

async function ask(url, path, method = "GET") {
  const response = await fetch(url + path, { method });
  return response.json();
}

const running = async (url, room) => (await ask(url, `/api/jobs?room=${room}`)).jobs;
const nonEmpty = (jobs) => jobs.length > 0 && jobs;
const history = async (url, room) => (await ask(url, `/api/history?room=${room}`)).jobs;
const kill = (url, room, connid = "import") => ask(url, `/api/jobs/${connid}?room=${room}&reason=enough`, "DELETE");

/** A way to the server that can be cut, and held up in the direction of the program. */
async function detour(t, url) {
  const target = Number(new URL(url).port);
  const pairs = new Set();
  let open = true;
  let held = false;
  const listener = createServer((near) => {
    if (!open) return near.destroy();
    const far = dial(target, "127.0.0.1");
    const pair = { near, far };
    pairs.add(pair);
    near.on("data", (data) => {
      way.sent += 1;
      far.write(data);
    });
    far.on("data", (data) => near.write(data));
    if (held) far.pause();
    for (const [one, other] of [[near, far], [far, near]]) {
      one.on("error", () => {});
      one.on("close", () => (other.destroy(), pairs.delete(pair)));
    }
    return undefined;
  });
  await new Promise((ready) => listener.listen(0, "127.0.0.1", ready));
  t.after(() => {
    listener.close();
    for (const { near } of pairs) near.destroy();
  });
  const way = {
    url: `http://127.0.0.1:${listener.address().port}`,
    /** How often the program has sent something. */
    sent: 0,
    cut() {
      open = false;
      for (const { near } of pairs) near.destroy();
    },
    mend: () => (open = true),
    hold(on) {
      held = on;
      for (const { far } of pairs) on ? far.pause() : far.resume();
    },
  };
  return way;
}

inEach("a job is seen while its work runs, with its report, and leaves its result", async (t, runtime) => {
  const room = newRoom();
  const { lines, ended, tell } = program(t, runtime, "reports", server.url, { room, note: "weekly" });
  const job = await until(async () => (await running(server.url, room)).find(({ progress }) => progress));
  assert.deepEqual([job.connid, job.note, job.time > 590, job.lease, job.stoppable], ["import", "weekly", true, 30, "cooperative"]);
  assert.deepEqual([job.progress.done, job.progress.note], [0.5, "rows"]);
  assert.match(job.by, /.@./, "it says who has started it");
  tell("end");
  assert.equal(await ended, 0);
  assert.deepEqual(lines, ["returned 42"]);
  const [end] = await history(server.url, room);
  assert.deepEqual([end.outcome, end.result], ["done", { rows: 3 }]);
});

test("what work reports last is its progress at the end", async (t) => {
  const room = newRoom();
  const { ended } = program(t, "node", "reportsLast", server.url, { room });
  assert.equal(await ended, 0);
  const [{ progress }] = await history(server.url, room);
  assert.deepEqual([progress.done, progress.note], [1, "rows"]);
});

inEach("more time moves the limit of the work", async (t, runtime) => {
  const room = newRoom();
  const { lines, ended, tell } = program(t, runtime, "reports", server.url, { room, time: 1.5 });
  const [{ started_at }] = await until(async () => nonEmpty(await running(server.url, room)));
  await ask(server.url, `/api/jobs/import/extend?room=${room}&time=60`, "POST");
  await until(async () => (await ask(server.url, `/api/jobs?room=${room}`)).now > started_at + 2);
  tell("end");
  assert.equal(await ended, 0);
  assert.deepEqual(lines, ["returned 42"]);
});

inEach("a kill aborts the signal, and is told as stopped when the work is gone", async (t, runtime) => {
  const room = newRoom();
  const { lines, ended, tell } = program(t, runtime, "cleansUp", server.url, { room });
  await until(async () => (await running(server.url, room)).length === 1);
  await eventually(() => lines.includes("begun"));
  await kill(server.url, room);
  await eventually(() => lines.includes("asked by anonymous enough"));
  const [killed] = await history(server.url, room);
  assert.deepEqual([killed.state, killed.stopped_at], ["killed", null], "the work is still there");
  tell("clean");
  assert.equal(await ended, 0);
  assert.equal(lines.at(-1), "stopped: Killed killed by anonymous: enough");
  const [gone] = await history(server.url, room);
  assert.ok(gone.stopped_at > killed.ended_at);
});

inEach("work that lets nothing else run keeps its lease", async (t, runtime) => {
  const room = newRoom();
  const { lines, ended } = program(t, runtime, "computes", server.url, { room, lease: 1 });
  assert.equal(await ended, 0);
  assert.deepEqual(lines, ["begun", "returned 42"]);
  const [end] = await history(server.url, room);
  assert.equal(end.outcome, "done");
});

for (const scenario of ["computesUntilKilled", "tracksUntilKilled"]) {
  inEach(`work that lets nothing else run is killed as it reports: ${scenario}`, async (t, runtime) => {
    const room = newRoom();
    const { lines, ended } = program(t, runtime, scenario, server.url, { room });
    await until(async () => (await running(server.url, room)).length === 1);
    await kill(server.url, room);
    assert.equal(await ended, 0);
    assert.deepEqual(lines, ["begun", "stopped: Killed killed by anonymous: enough"]);
    const [end] = await history(server.url, room);
    assert.ok(end.stopped_at);
  });
}

inEach("a loop shows how many of its items are done", async (t, runtime) => {
  const room = newRoom();
  const { lines, ended, tell } = program(t, runtime, "tracks", server.url, { room });
  await eventually(() => lines.includes("item a"));
  tell("go on");
  const job = await until(async () => (await running(server.url, room)).find(({ progress }) => progress));
  assert.deepEqual([job.progress.done, job.progress.note], [1 / 3, "1/3"]);
  tell("go on");
  tell("go on");
  assert.equal(await ended, 0);
  assert.deepEqual(lines, ["item a", "item b", "item c", "whole"]);
  assert.equal((await history(server.url, room))[0].outcome, "done");
});

test("a loop that is left before its end has failed, and says how far it came", async (t) => {
  const room = newRoom();
  const { lines, ended } = program(t, "node", "breaks", server.url, { room });
  assert.equal(await ended, 0);
  assert.deepEqual(lines, ["broken off"]);
  const [end] = await history(server.url, room);
  assert.deepEqual([end.outcome, end.result.error], ["failed", "Error: left after 1 of 3"]);
});

test("an error of the work is its program's, and shown as the result", async (t) => {
  const room = newRoom();
  const { lines, ended, tell } = program(t, "node", "fails", server.url, { room });
  await until(async () => (await running(server.url, room)).length === 1);
  tell("fail");
  assert.equal(await ended, 0);
  assert.deepEqual(lines, ["failed: Error no such file"]);
  const [end] = await history(server.url, room);
  assert.deepEqual([end.outcome, end.result.error], ["failed", "Error: no such file"]);
});

test("the program's own signal stops the work, and is no kill", async (t) => {
  const room = newRoom();
  const { lines, ended } = program(t, "node", "isStoppedByItself", server.url, { room });
  assert.equal(await ended, 0);
  assert.deepEqual(lines, ["failed: Error enough"]);
  assert.equal((await history(server.url, room))[0].outcome, "failed");
});

inEach("a program whose work never ends is not held at its exit", async (t, runtime) => {
  const room = newRoom();
  const { lines, ended, tell } = program(t, runtime, "exits", server.url, { room });
  await until(async () => (await running(server.url, room)).length === 1);
  tell("exit");
  assert.equal(await ended, 0);
  assert.deepEqual(lines, ["exiting"]);
});

test("two jobs of one name have a number", async (t) => {
  const room = newRoom();
  const { ended, tell } = program(t, "node", "hasNames", server.url, { room });
  const jobs = await until(async () => {
    const found = await running(server.url, room);
    return found.length === 2 && found;
  });
  assert.deepEqual(jobs.map(({ connid }) => connid).sort(), ["import", "import-2"]);
  tell("end");
  tell("end");
  assert.equal(await ended, 0);
});

inEach("without a server the work runs, and keeps its time", async (t, runtime) => {
  const away = "http://127.0.0.1:9";
  const failing = program(t, runtime, "fails", away);
  await eventually(() => failing.lines.includes(`problem: ${away} cannot be reached`));
  failing.tell("fail");
  assert.equal(await failing.ended, 0);
  assert.equal(failing.lines.at(-1), "failed: Error no such file");
  const late = program(t, runtime, "computesUntilKilled", away, { time: 0.5 });
  assert.equal(await late.ended, 0);
  assert.equal(late.lines.at(-1), "stopped: TimedOut the time of the job is over");
});

test("work whose settings are of no use runs all the same", async (t) => {
  for (const address of ["no address", "ftp://127.0.0.1:1"]) {
    const { lines, ended, tell } = program(t, "node", "fails", address);
    await eventually(() => lines.includes(`problem: ${address} is no address of a server`));
    tell("fail");
    assert.equal(await ended, 0);
    assert.equal(lines.at(-1), "failed: Error no such file");
  }
});

test("what can never be a job is told to its program", async () => {
  for (const time of ["soon", 0, -1, undefined, NaN]) await assert.rejects(job("a", { time }, () => {}), RangeError);
  await assert.rejects(job(12, { time: 1 }, () => {}), TypeError);
});

test("a server that hangs holds no work up", async (t) => {
  const hanging = createServer(() => {});
  await new Promise((ready) => hanging.listen(0, "127.0.0.1", ready));
  t.after(() => hanging.close());
  const { lines, ended, tell } = program(t, "node", "fails", `http://127.0.0.1:${hanging.address().port}`);
  tell("fail");
  assert.equal(await ended, 0);
  assert.deepEqual(lines, ["failed: Error no such file"]);
});

test("the time of a job ends its work", async (t) => {
  const room = newRoom();
  const { lines, ended } = program(t, "node", "computesUntilKilled", server.url, { room, time: 2 });
  assert.equal(await ended, 0);
  assert.equal(lines.at(-1), "stopped: TimedOut the time of the job is over");
  const [end] = await until(async () => (await history(server.url, room)).length > 0 && history(server.url, room));
  assert.deepEqual([end.outcome, end.stopped_at !== null], ["elapsed", true]);
});

inEach("a kill that came while there was no connection is obeyed after the next one", async (t, runtime) => {
  const room = newRoom();
  const way = await detour(t, server.url);
  const { lines, ended, tell } = program(t, runtime, "cleansUp", way.url, { room });
  await until(async () => (await running(server.url, room)).length === 1);
  way.cut();
  await kill(server.url, room);
  await ask(server.url, `/api/jobs?room=${room}`);
  assert.ok(!lines.some((line) => line.startsWith("asked")));
  way.mend();
  await eventually(() => lines.includes("asked by anonymous enough"));
  tell("clean");
  assert.equal(await ended, 0);
  assert.ok((await history(server.url, room))[0].stopped_at);
});

test("a job whose lease ran out while it was cut off begins anew, with the time that is left", async (t) => {
  const room = newRoom();
  const way = await detour(t, server.url);
  const { lines, ended, tell } = program(t, "node", "reports", way.url, { room, lease: 1 });
  const [first] = await until(async () => (await running(server.url, room)).length === 1 && running(server.url, room));
  way.cut();
  await until(async () => (await history(server.url, room)).length === 1);
  way.mend();
  const [second] = await until(async () => (await running(server.url, room)).length === 1 && running(server.url, room));
  assert.notEqual(second.run, first.run);
  assert.ok(second.time < first.time);
  tell("end");
  assert.equal(await ended, 0);
  assert.equal(lines.at(-1), "returned 42");
  const outcomes = (await history(server.url, room)).map(({ outcome }) => outcome);
  assert.deepEqual(outcomes, ["done", "lost"]);
});

test("work that ends in the moment of its kill has stopped", async (t) => {
  const room = newRoom();
  const way = await detour(t, server.url);
  const { lines, ended, tell } = program(t, "node", "reports", way.url, { room });
  await until(async () => (await running(server.url, room)).some(({ progress }) => progress));
  way.hold(true);
  await kill(server.url, room);
  const before = way.sent;
  tell("end");
  await eventually(() => way.sent > before);
  way.hold(false);
  assert.equal(await ended, 0);
  assert.equal(lines.at(-1), "returned 42");
  const [end] = await history(server.url, room);
  assert.deepEqual([end.state, end.stopped_at !== null], ["killed", true]);
});

test("a server that comes later shows the job, with the time that is left", async (t) => {
  const own = await serve(t);
  await own.kill();
  const { lines, ended, tell } = program(t, "node", "reports", own.url);
  await eventually(() => lines.some((line) => line.startsWith("problem:")));
  await own.start();
  const [job] = await until(async () => (await running(own.url, "main")).length === 1 && running(own.url, "main"));
  assert.ok(job.time < 600);
  tell("end");
  assert.equal(await ended, 0);
  assert.equal((await history(own.url, "main"))[0].outcome, "done");
});

test("a job survives a restart of the server", async (t) => {
  const own = await serve(t);
  const { ended, tell } = program(t, "node", "reports", own.url, { note: "twice" });
  const [before] = await until(async () => (await running(own.url, "main")).length === 1 && running(own.url, "main"));
  await own.kill();
  await own.start();
  tell("report");
  await until(async () => (await running(own.url, "main")).some(({ progress }) => progress?.done === 0.9));
  tell("end");
  assert.equal(await ended, 0);
  const [end] = await history(own.url, "main");
  assert.deepEqual([end.run, end.outcome], [before.run, "done"]);
});

inEach("a token is sent along, and what is wrong with one is said", async (t, runtime) => {
  const secret = "a secret of the tests that is long enough";
  const own = await serve(t, { AUTH_SECRET: secret });
  const wrong = program(t, runtime, "fails", own.url, { token: "nonsense" });
  await eventually(() => wrong.lines.some((line) => line.includes("refuses the connection")));
  wrong.tell("fail");
  assert.equal(await wrong.ended, 0);
  assert.equal(wrong.lines.at(-1), "failed: Error no such file");
  const token = await tokenOf(secret, "bo");
  const { ended, tell } = program(t, runtime, "reports", own.url, { token });
  const jobs = async () => {
    const response = await fetch(`${own.url}/api/jobs`, { headers: { Authorization: `Bearer ${token}` } });
    return (await response.json()).jobs;
  };
  const [job] = await until(async () => (await jobs()).length === 1 && jobs());
  assert.equal(job.by, "bo");
  tell("end");
  assert.equal(await ended, 0);
});

inEach("of kills at random instants none is lost, and each is told as stopped", async (t, runtime) => {
  const number = process.env.HOURGLASS_SOAK ? 1_000 : 60;
  const room = newRoom();
  const following = follow(room, { io, url: server.url, ended: 2 * number });
  t.after(() => following.close());
  await eventually(() => following.live);
  const killing = new Set();
  const answers = [];
  following.subscribe(() => {
    for (const { connid, run } of following.running) {
      if (killing.has(run)) continue;
      killing.add(run);
      setTimeout(() => answers.push(following.command("kill", { connid, run }).catch(({ code }) => code)), Math.random() * 60);
    }
  });
  const { lines, ended } = program(t, runtime, "isKilledAtRandom", server.url, { room, note: `${number}` });
  assert.equal(await ended, 0);
  assert.ok((await Promise.all(answers)).every((answer) => answer.ok || answer === "not_running"));
  await eventually(() => following.running.length === 0 && following.ended.length >= number);
  assert.equal(following.ended.length, number, "none has begun twice");
  const untold = following.ended.filter(({ state, stopped_at: at }) => state === "killed" && at == null);
  assert.deepEqual(untold.map(({ connid }) => connid), []);
  const killed = following.ended.filter(({ state }) => state === "killed").map(({ connid }) => connid);
  const stopped = lines.filter((line) => line.endsWith(" Killed")).map((line) => line.split(" ")[0]);
  assert.deepEqual(stopped.filter((connid) => !killed.includes(connid)), [], "nobody else was stopped");
  assert.ok(stopped.length > number / 10, `${stopped.length} of ${number} were stopped`);
});

test("the example in the documentation runs", async (t) => {
  const room = newRoom();
  const [, example] = readFileSync("docs/programs.md", "utf8").split("import { job, track }");
  const [code] = example.split("```");
  const program = `
    import { job, track } from ${JSON.stringify(new URL("../../client/job.js", import.meta.url).href)};
    const readRows = async () => [{ name: "a" }, { name: "b" }];
    const store = async () => {};
    const images = ["x", "y"];
    const resize = async (image) => console.log("resized", image);
    ${code.slice(code.indexOf(";") + 1)}
    console.log("rows", total);
  `;
  const env = { ...process.env, HOURGLASS_URL: server.url, HOURGLASS_ROOM: room };
  const child = spawn("node", ["--input-type=module", "--eval", program], { env, stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill());
  const lines = [];
  for await (const line of createInterface({ input: child.stdout })) lines.push(line);
  assert.deepEqual(lines, ["resized x", "resized y", "rows 2"]);
  await until(async () => (await history(server.url, room)).length === 2);
});
