import assert from "node:assert/strict";
import { test } from "node:test";
import { RoomState } from "../../client/follow/state.js";

const ROOM = "main";

const jobOf = (run, more = {}) => ({
  connid: `job-${run}`,
  run,
  room: ROOM,
  state: "running",
  time: 60,
  started_at: 100,
  deadline: 160,
  by: "ana",
  note: null,
  progress: null,
  lease: null,
  ...more,
});

const snapshot = (more = {}) => ({
  room: ROOM,
  epoch: "e1",
  seq: 0,
  now: 100,
  running: [],
  ended: [],
  ...more,
});
const started = (seq, run, more) => ["started", { room: ROOM, seq, at: seq, job: jobOf(run, more) }];
const killed = (seq, run, more = {}) => [
  "killed",
  { room: ROOM, seq, at: seq, connid: `job-${run}`, run, by: "ben", via: "http", reason: "slow", ...more },
];
const finished = (seq, run, more = {}) => [
  "finished",
  { room: ROOM, seq, at: seq, connid: `job-${run}`, run, outcome: "done", result: 7, ...more },
];
const stopped = (seq, run, exit = 0) => [
  "stopped",
  { room: ROOM, seq, at: seq, connid: `job-${run}`, run, exit },
];
const amended = (seq, run, outcome = "done", result = null) => [
  "amended",
  { room: ROOM, seq, at: seq, connid: `job-${run}`, run, outcome, result },
];
const progress = (at, run, done, note = null) => [
  "progress",
  { room: ROOM, at, connid: `job-${run}`, run, done, note },
];

function stateAfter(...events) {
  const state = new RoomState(ROOM);
  state.apply("snapshot", snapshot());
  for (const event of events) state.apply(...event);
  return state;
}

const runs = (jobs) => jobs.map((job) => job.run);

test("nothing is known before the first snapshot", () => {
  const state = new RoomState(ROOM);
  assert.equal(state.known, false);
  assert.equal(state.position(), null);
  assert.equal(state.behind, false);
  state.apply("snapshot", snapshot());
  assert.equal(state.known, true);
  assert.deepEqual(state.position(), { epoch: "e1", seq: 0 });
});

test("events in order are applied, the newest job first", () => {
  const state = stateAfter(started(1, "a"), started(2, "b"), started(3, "c"), killed(4, "b"));
  assert.deepEqual(runs(state.running()), ["c", "a"]);
  assert.deepEqual(runs(state.ended()), ["b"]);
  assert.deepEqual(state.position(), { epoch: "e1", seq: 4 });
});

test("a snapshot's jobs keep start order, whatever order they come in", () => {
  const state = new RoomState(ROOM);
  const running = [2, 3, 1].map((at) => jobOf(`r${at}`, { started_at: at }));
  const ended = [5, 4].map((seq) => jobOf(`e${seq}`, { state: "finished", seq }));
  state.apply("snapshot", snapshot({ seq: 9, running, ended }));
  assert.deepEqual(runs(state.running()), ["r3", "r2", "r1"]);
  assert.deepEqual(runs(state.ended()), ["e5", "e4"]);
});

test("a killed job keeps who started it and tells who killed it", () => {
  const [job] = stateAfter(started(1, "a"), killed(2, "a")).ended();
  assert.deepEqual(job, {
    ...jobOf("a"),
    state: "killed",
    seq: 2,
    started_by: "ana",
    by: "ben",
    via: "http",
    reason: "slow",
    ended_at: 2,
  });
});

test("a finished job keeps its starter as by, too", () => {
  const [job] = stateAfter(started(1, "a"), finished(2, "a", { late: true })).ended();
  assert.deepEqual(job, {
    ...jobOf("a"),
    state: "finished",
    seq: 2,
    started_by: "ana",
    outcome: "done",
    result: 7,
    late: true,
    ended_at: 2,
  });
});

test("stopped marks the ended job of its run, and is harmless for an unknown one", () => {
  const state = stateAfter(started(1, "a"), killed(2, "a"), stopped(3, "a", 143), stopped(4, "gone"));
  assert.equal(state.ended()[0].exit, 143);
  assert.equal(state.ended()[0].stopped_at, 3);
  assert.equal(state.seq, 4);
});

test("extended moves the deadline of a running job, and is harmless for an unknown one", () => {
  const extended = (seq, run) => ["extended", { room: "main", seq, at: seq, run, connid: run, time: 90, deadline: 95 }];
  const state = stateAfter(started(1, "a"));
  const before = state.find("a");
  for (const [name, event] of [extended(2, "a"), extended(3, "gone")]) state.apply(name, event);
  assert.deepEqual([state.seq, state.find("a")], [3, { ...before, time: 90, deadline: 95 }]);
  assert.notEqual(before.time, 90, "a job is never changed in place");
});

test("amended tells how a lost job truly ended, and is harmless for an unknown one", () => {
  const lost = finished(2, "a", { outcome: "lost", result: null });
  const state = stateAfter(started(1, "a"), lost, amended(3, "a", "failed", { exit: 3 }), amended(4, "gone"));
  const { outcome, result, amended_at, ended_at } = state.ended()[0];
  assert.deepEqual([outcome, result, amended_at, ended_at], ["failed", { exit: 3 }, 3, 2]);
  assert.equal(state.seq, 4);
});

test("an event of the log with an unknown name moves the position alone", () => {
  const unknown = ["renamed", { room: ROOM, seq: 2, at: 2, run: "a" }];
  const state = stateAfter(started(1, "a"), unknown, started(3, "b"));
  assert.equal(state.seq, 3);
  assert.equal(state.behind, false);
  assert.equal(state.size, 2);
});

test("a duplicate changes nothing", () => {
  const state = stateAfter(started(1, "a"), killed(2, "a"));
  const before = state.ended()[0];
  assert.equal(state.apply(...started(1, "a")), "duplicate");
  assert.equal(state.apply(...killed(2, "a", { by: "eve" })), "duplicate");
  assert.deepEqual(state.running(), []);
  assert.equal(state.ended()[0], before);
});

test("a hole is noticed, and closed when the missing event comes", () => {
  const state = stateAfter(started(1, "a"));
  assert.equal(state.apply(...killed(3, "b")), "held");
  assert.equal(state.behind, true);
  assert.deepEqual(state.position(), { epoch: "e1", seq: 1 });
  assert.equal(state.apply(...started(2, "b")), "applied");
  assert.equal(state.behind, false);
  assert.equal(state.seq, 3);
  assert.deepEqual(runs(state.ended()), ["b"]);
});

test("a hole is noticed even where too much came early to be held", () => {
  const state = stateAfter();
  for (let seq = 2; seq < 3000; seq++) state.apply(...started(seq, `r${seq}`));
  state.apply(...started(1, "r1"));
  assert.equal(state.behind, true);
  for (let seq = state.seq + 1; seq < 3000; seq++) state.apply(...started(seq, `r${seq}`));
  assert.equal(state.behind, false);
  assert.equal(state.running().length, 2999);
});

test("events before the snapshot wait for it", () => {
  const state = new RoomState(ROOM);
  assert.equal(state.apply(...started(6, "f")), "held");
  assert.equal(state.apply(...started(5, "e")), "held");
  assert.deepEqual(state.running(), []);
  state.apply("snapshot", snapshot({ seq: 5, running: [jobOf("e")] }));
  assert.deepEqual(runs(state.running()), ["f", "e"]);
  assert.equal(state.seq, 6);
  assert.equal(state.behind, false);
});

test("an older snapshot of the same log is ignored", () => {
  const state = stateAfter(started(1, "a"), started(2, "b"));
  assert.equal(state.apply("snapshot", snapshot({ seq: 1, running: [jobOf("a")] })), "duplicate");
  assert.deepEqual(runs(state.running()), ["b", "a"]);
});

test("a new epoch replaces everything, also with a lower seq", () => {
  const state = stateAfter(started(1, "a"), started(2, "b"), killed(3, "a"));
  state.apply("snapshot", snapshot({ epoch: "e2", seq: 1, running: [jobOf("z")] }));
  assert.deepEqual(runs(state.running()), ["z"]);
  assert.deepEqual(state.ended(), []);
  assert.deepEqual(state.position(), { epoch: "e2", seq: 1 });
  assert.equal(state.behind, false);
  state.apply(...started(2, "y"));
  assert.deepEqual(runs(state.running()), ["y", "z"]);
});

test("events held across a new epoch are dropped, and a snapshot is asked for", () => {
  const state = stateAfter(started(1, "a"));
  state.apply(...started(3, "of-which-log"));
  state.apply("snapshot", snapshot({ epoch: "e2", seq: 2, running: [jobOf("z")] }));
  assert.deepEqual(runs(state.running()), ["z"]);
  assert.equal(state.behind, true);
  assert.equal(state.position(), null);
  state.apply("snapshot", snapshot({ epoch: "e2", seq: 3, running: [jobOf("z"), jobOf("y")] }));
  assert.equal(state.behind, false);
  assert.deepEqual(state.position(), { epoch: "e2", seq: 3 });
});

test("after a disconnect only what was applied counts", () => {
  const state = stateAfter(started(1, "a"));
  state.apply(...started(3, "c"));
  state.disconnected();
  assert.equal(state.behind, false);
  assert.deepEqual(state.position(), { epoch: "e1", seq: 1 });
  state.apply(...started(2, "b"));
  assert.deepEqual(runs(state.running()), ["b", "a"]);
});

test("the latest progress wins, by its instant", () => {
  const state = stateAfter(started(1, "a"), progress(10, "a", 0.5, "half"), progress(9, "a", 0.4));
  assert.deepEqual(state.running()[0].progress, { done: 0.5, note: "half", at: 10 });
  state.apply(...progress(11, "a", 0.3));
  assert.deepEqual(state.running()[0].progress, { done: 0.3, note: null, at: 11 });
  assert.equal(state.seq, 1);
});

test("progress of a job that is still to come is kept for it, of an ended one ignored", () => {
  const state = stateAfter();
  assert.equal(state.apply(...progress(3, "a", 0.1)), "held");
  assert.deepEqual(state.running(), []);
  state.apply(...started(1, "a"));
  assert.equal(state.running()[0].progress.done, 0.1);
  state.apply(...killed(2, "a"));
  assert.equal(state.apply(...progress(9, "a", 0.9)), "ignored");
  assert.equal(state.ended()[0].progress.done, 0.1);
});

test("what is told of unknown jobs does not pile up", () => {
  const state = stateAfter();
  for (let n = 0; n < 5000; n++) state.apply(...progress(n, `ghost-${n}`, 0.5));
  state.apply(...started(1, "ghost-0"));
  state.apply(...started(2, "ghost-4999"));
  assert.equal(state.running()[1].progress, null);
  assert.equal(state.running()[0].progress.done, 0.5);
});

test("a job is replaced and never changed in place", () => {
  const state = stateAfter(started(1, "a"), started(2, "b"));
  const [b, a] = state.running();
  state.apply(...progress(3, "a", 0.5));
  assert.equal(a.progress, null);
  assert.notEqual(state.running()[1], a);
  assert.equal(state.running()[0], b);
});

test("presence is kept as it was last told", () => {
  const state = stateAfter(["presence", { room: ROOM, watching: 2, names: ["ana"] }]);
  state.apply("presence", { room: ROOM, watching: 1 });
  assert.deepEqual(state.presence, { watching: 1, names: [] });
});

test("other rooms, unknown events and nonsense are ignored", () => {
  const state = stateAfter(started(1, "a"));
  const other = { room: "other", seq: 2, at: 2, job: jobOf("x") };
  const nonsense = [
    ["started", other],
    ["snapshot", { ...snapshot(), room: "other" }],
    ["renamed", { room: ROOM }],
    ["constructor", { room: ROOM, seq: "2" }],
    ["started", undefined],
    ["started", null],
    ["killed", "text"],
    ["killed", { room: ROOM, run: "a" }],
  ];
  for (const event of nonsense) assert.equal(state.apply(...event), "ignored");
  assert.deepEqual(runs(state.running()), ["a"]);
  assert.equal(state.seq, 1);
  assert.equal(state.behind, false);
});

test("names of object internals are names like any other", () => {
  const names = ["__proto__", "constructor", "hasOwnProperty", "toString"];
  const state = stateAfter(
    ...names.map((name, index) => started(index + 1, name, { connid: name, by: name })),
    killed(5, "__proto__", { connid: "__proto__" }),
    progress(6, "constructor", 0.5),
  );
  assert.deepEqual(runs(state.running()), ["toString", "hasOwnProperty", "constructor"]);
  assert.equal(state.running()[2].progress.done, 0.5);
  assert.equal(state.ended()[0].connid, "__proto__");
  assert.equal({}.state, undefined);
});

test("only the last ended jobs are kept", () => {
  const state = stateAfter();
  for (let n = 1; n <= 120; n++) {
    state.apply(...started(2 * n - 1, `r${n}`));
    state.apply(...finished(2 * n, `r${n}`));
  }
  assert.equal(state.ended().length, 50);
  assert.equal(state.ended()[0].run, "r120");
  assert.equal(state.ended()[49].run, "r71");
});

test("the end of a job that was never seen is still told", () => {
  const [job] = stateAfter(finished(1, "a")).ended();
  assert.equal(job.connid, "job-a");
  assert.equal(job.outcome, "done");
});

/*
 * A random log through a random line: some events come twice, late or not at all, progress comes in
 * between, the line breaks, and sometimes the log begins anew. A reader that follows the rules (join
 * again when behind, and after a break) must end with what the log says.
 */
test("a bad line changes nothing in the end", () => {
  for (let seed = 1; seed <= 300; seed++) {
    const { reader, server } = liveThrough(generator(seed));
    assert.equal(reader.behind, false, `seed ${seed}`);
    assert.deepEqual(told(reader), told(server.plainReplay()), `seed ${seed}`);
  }
});

function liveThrough(random) {
  const server = new Log(random);
  const reader = new RoomState(ROOM);
  const flying = [];
  const cutOff = () => flying.splice(0);
  server.answerJoin(reader);
  for (let step = 0; step < 400; step++) {
    if (random() < 0.01) {
      server.beginAnew();
      cutOff(); // what a line still carries of the old log comes before the new one's snapshot
      server.answerJoin(reader);
    }
    const event = server.happen();
    if (random() < 0.85) flying.push(event);
    if (random() < 0.2) flying.push(event);
    while (flying.length > 0 && random() < 0.6) {
      const [next] = flying.splice(Math.floor(random() * Math.min(4, flying.length)), 1);
      reader.apply(...next);
    }
    if (random() < 0.02) {
      cutOff();
      reader.disconnected();
      server.answerJoin(reader);
    }
    if (reader.behind && random() < 0.3) server.answerJoin(reader);
  }
  for (const event of flying) reader.apply(...event);
  server.answerJoin(reader);
  return { reader, server };
}

/** What a reader shows; progress aside, which a reader that was away hears only with the next report. */
function told(state) {
  const plain = (job) => ({ ...job, progress: null });
  return {
    position: state.position(),
    running: state.running().map(plain),
    ended: state.ended().map(plain),
  };
}

class Log {
  #random;
  #epoch = 0;
  #runs = 0;
  #log = [];
  #alive = [];

  constructor(random) {
    this.#random = random;
  }

  beginAnew() {
    this.#epoch += 1;
    this.#log = [];
    this.#alive = [];
  }

  /** One thing happens: the event that tells it. */
  happen() {
    const dice = this.#random();
    const seq = this.#log.length + 1;
    const run = this.#alive[Math.floor(this.#random() * this.#alive.length)];
    if (run && dice < 0.2) return progress(seq + this.#random(), run, this.#random());
    if (run && dice < 0.4) return this.#record(killed(seq, this.#end(run)));
    if (run && dice < 0.55) return this.#record(finished(seq, this.#end(run)));
    const any = `r${Math.ceil(this.#random() * this.#runs)}`;
    if (dice < 0.58) return this.#record(stopped(seq, any));
    if (dice < 0.61) return this.#record(amended(seq, any));
    const next = `r${++this.#runs}`;
    this.#alive.push(next);
    return this.#record(started(seq, next, { started_at: seq }));
  }

  /** As a server answers: the missed events where it can, else a snapshot. */
  answerJoin(reader) {
    const since = reader.position();
    if (since?.epoch === this.#name && this.#random() < 0.5) {
      for (const event of this.#log.slice(since.seq)) reader.apply(...event);
    } else {
      reader.apply("snapshot", this.#snapshot());
    }
  }

  plainReplay() {
    const state = new RoomState(ROOM);
    state.apply("snapshot", snapshot({ epoch: this.#name }));
    for (const event of this.#log) state.apply(...event);
    return state;
  }

  get #name() {
    return `e${this.#epoch}`;
  }

  #record(event) {
    this.#log.push(event);
    return event;
  }

  #end(run) {
    this.#alive = this.#alive.filter((other) => other !== run);
    return run;
  }

  #snapshot() {
    const state = this.plainReplay();
    return snapshot({
      epoch: this.#name,
      seq: state.seq,
      running: state.running(),
      ended: state.ended(),
    });
  }
}

/** A small seeded generator of numbers in [0, 1), the same on every machine (mulberry32). */
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

test("after a break no report counts as older than those before it", () => {
  const state = new RoomState("main");
  state.apply("snapshot", snapshot({ running: [jobOf("a")] }));
  state.apply(...progress(20, "a", 0.5));
  assert.equal(state.apply(...progress(10, "a", 0.1)), "duplicate");
  state.disconnected();
  assert.equal(state.apply(...progress(10, "a", 0.6)), "applied");
  assert.equal(state.running()[0].progress.done, 0.6);
});
