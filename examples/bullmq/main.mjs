import { Queue, QueueEvents, Worker } from "bullmq";
import { setTimeout as wait } from "node:timers/promises";
import { shown } from "../../client/job/bullmq.js";

const { HOURGLASS_URL = "http://127.0.0.1:8000", REDIS_URL = "redis://127.0.0.1:6379" } = process.env;
const { HOURGLASS_TOKEN: token } = process.env;
const room = "example-bullmq";
const connection = { url: REDIS_URL, maxRetriesPerRequest: null };

/** What the queue is for: it takes a minute, and stops when its signal says so. */
async function resize(job, lockToken, signal) {
  console.log(`begins ${job.data.image}`);
  for (let part = 0; part < 60; part++) {
    await wait(job.data.pace, undefined, { signal });
    await job.updateProgress((100 * part) / 60);
  }
}

const options = { time: "5m", room, url: HOURGLASS_URL, token };
const worker = new Worker("images", shown(resize, options), { connection });
const queue = new Queue("images", { connection });
const events = new QueueEvents("images", { connection });
await events.waitUntilReady();

const retried = { attempts: 3, backoff: 100 };
const small = await queue.add("small image", { image: "cat.png", pace: 1 }, retried);
await small.waitUntilFinished(events);
console.log("resized cat.png");

// Anyone can stop the other one in a browser; here this program does.
const large = await queue.add("large image", { image: "map.tiff", pace: 1_000 }, retried);
const address = `${HOURGLASS_URL}/api/jobs/${encodeURIComponent("large image")}?room=${room}`;
const headers = token ? { Authorization: `Bearer ${token}` } : {};
while (!(await fetch(address, { headers })).ok) await wait(50);
await fetch(`${address}&reason=enough`, { method: "DELETE", headers });
const error = await large.waitUntilFinished(events).catch((failure) => failure);
console.log(`map.tiff: ${error.message}`);

const { attemptsMade } = await queue.getJob(large.id);
console.log(`attempts: ${attemptsMade}`);
await Promise.all([worker.close(), queue.close(), events.close()]);
