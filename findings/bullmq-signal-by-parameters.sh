#!/usr/bin/env bash
# BullMQ 6.7.0 and 5.81.5 hand a processor the AbortSignal that `worker.cancelJob` aborts only where the
# function has three parameters, as its `length` tells. One with a default, or with `...rest`, has fewer: it
# gets undefined, and `cancelJob` answers false and stops nothing.
#
# Needs redis-server. Prints the versions and what each processor was given; fails when that changes.
set -euo pipefail
folder=$(mktemp -d)
redis-server --port 0 --unixsocket "$folder/redis.sock" --save "" --daemonize no > /dev/null &
redis=$!
trap 'kill $redis; wait $redis || true; rm -rf "$folder"' EXIT
cat > "$folder/signal.mjs" <<'JS'
import { readFileSync } from "node:fs";
import { Queue, Worker } from "bullmq";

const connection = { path: process.argv[2], maxRetriesPerRequest: null };
const { version } = JSON.parse(readFileSync(new URL("node_modules/bullmq/package.json", import.meta.url)));
const found = {};

async function given(shape, processor) {
  const worker = new Worker("q", processor, { connection });
  const queue = new Queue("q", { connection });
  const { id } = await queue.add(shape, {});
  while (!running.has(shape)) await new Promise((resume) => setTimeout(resume, 20));
  found[shape] = { signal: running.get(shape) instanceof AbortSignal, cancelled: worker.cancelJob(id) };
  await worker.close(true);
  await queue.close();
}

const running = new Map();
const work = (job, signal) => {
  running.set(job.name, signal);
  return new Promise(() => {});
};
await given("(job, token, signal)", (job, token, signal) => work(job, signal));
await given("(job, token, signal = null)", (job, token, signal = null) => work(job, signal));
await given("(...args)", (...args) => work(args[0], args[2]));
console.log(`BullMQ ${version}`, found);
const told = Object.values(found).map(({ signal, cancelled }) => `${signal} ${cancelled}`);
if (told.join() !== "true true,false false,false false") throw new Error("this has changed");
process.exit();
JS
for version in 6.7.0 5.81.5; do
  npm install --silent --no-audit --no-fund --prefix "$folder" "bullmq@$version" ioredis@5.11.1 > /dev/null
  node "$folder/signal.mjs" "$folder/redis.sock"
done
