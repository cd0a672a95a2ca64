import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { shown } from "../../client/job/bullmq.js";
import { serve, serveRedis, until } from "./server.mjs";

const RETRIED = { attempts: 3, backoff: 10 };

for (const version of ["bullmq", "bullmq-5"]) {
  test(`a job that is killed is stopped and never begins again (${version})`, async (t) => {
    const { queue, events, worker, server, begun } = await setUp(t, version);
    const job = await queue.add("resize", {}, RETRIED);
    const first = await begun();
    assert.equal(first.id, job.id);
    const seen = await until(async () => (await (await fetch(`${server.url}/api/jobs`)).json()).jobs[0]);
    assert.deepEqual([seen.connid, seen.note], ["resize", `images #${job.id}`]);
    const failed = once(worker, "failed");
    await server.ask("kill", { connid: "resize" });
    await assert.rejects(job.waitUntilFinished(events), /killed by anonymous/);
    await failed;
    assert.equal(await job.getState(), "failed");
    assert.equal((await queue.getJob(job.id)).attemptsMade, 1);
    const [end] = (await (await fetch(`${server.url}/api/history`)).json()).jobs;
    assert.deepEqual([end.state, end.stopped_at !== null], ["killed", true]);
  });

  test(`an error of the work is tried again, as ever (${version})`, async (t) => {
    const { queue, events, server } = await setUp(t, version);
    const job = await queue.add("fail", {}, RETRIED);
    await assert.rejects(job.waitUntilFinished(events), /no such image/);
    assert.equal((await queue.getJob(job.id)).attemptsMade, 3);
    const { jobs } = await (await fetch(`${server.url}/api/history`)).json();
    assert.deepEqual(jobs.map(({ outcome }) => outcome), ["failed", "failed", "failed"]);
  });

  test(`the queue's own way to cancel stops the work, and is no kill (${version})`, async (t) => {
    const { queue, events, worker, server, begun } = await setUp(t, version);
    const job = await queue.add("resize", {});
    await begun();
    await until(async () => (await (await fetch(`${server.url}/api/jobs`)).json()).jobs.length > 0);
    worker.cancelJob(job.id, "not wanted");
    await assert.rejects(job.waitUntilFinished(events));
    const [end] = (await (await fetch(`${server.url}/api/history`)).json()).jobs;
    assert.equal(end.outcome, "failed");
  });
}

test("the example runs", async (t) => {
  const [server, redis] = await Promise.all([serve(t), serveRedis(t)]);
  const env = { ...process.env, HOURGLASS_URL: server.url, REDIS_URL: redis.url };
  const program = spawn("node", ["examples/bullmq/main.mjs"], { env, stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => program.kill());
  const lines = [];
  for await (const line of createInterface({ input: program.stdout })) lines.push(line);
  assert.deepEqual(lines, [
    "begins cat.png",
    "resized cat.png",
    "begins map.tiff",
    "map.tiff: killed by anonymous: enough",
    "attempts: 1",
  ]);
});

/** A queue and a worker that shows its jobs; `begun` waits for the next one. */
async function setUp(t, version) {
  const { Queue, QueueEvents, Worker } = await import(version);
  const parts = [];
  // Before Redis is gone.
  t.after(() => Promise.all(parts.map((part) => part.close(true))));
  const [server, redis] = await Promise.all([serve(t), serveRedis(t)]);
  const connection = { url: redis.url, maxRetriesPerRequest: null };
  let tell;
  let next = new Promise((resolve) => (tell = resolve));
  const work = async (job, token, signal) => {
    if (job.name === "fail") throw new Error("no such image");
    await job.updateProgress(25);
    tell(job);
    await once(signal, "abort");
    throw signal.reason;
  };
  const worker = new Worker("images", shown(work, { time: "5m", url: server.url }), { connection });
  const queue = new Queue("images", { connection });
  const events = new QueueEvents("images", { connection });
  parts.push(worker, queue, events);
  await events.waitUntilReady();
  return { queue, events, worker, server, begun: () => next };
}
