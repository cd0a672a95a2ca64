#!/usr/bin/env bash
# In Bun 1.4.5 `process.hrtime` counts from the start of the thread that asks: a worker that started after
# 300 ms is 300 ms behind its parent. In Node 20 and later all threads of a process have the same, so that
# instants can go from one to another.
#
# Prints the versions and how far the two threads are apart; fails when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --silent --no-audit --no-fund --prefix "$folder" bun@1.4.5 > /dev/null
cat > "$folder/threads.mjs" <<'JS'
import { isMainThread, parentPort, Worker } from "node:worker_threads";

const now = () => Number(process.hrtime.bigint()) / 1e6;

if (isMainThread) {
  await new Promise((resume) => setTimeout(resume, 300));
  const worker = new Worker(new URL(import.meta.url));
  const [there, here] = await new Promise((heard) => worker.once("message", (message) => heard([message, now()])));
  const runtime = globalThis.Bun ? `Bun ${Bun.version}` : `Node ${process.version}`;
  const apart = here - there;
  console.log(`${runtime}: the worker is ${Math.round(apart)} ms behind`);
  if (apart > 250 !== Boolean(globalThis.Bun)) throw new Error("this has changed");
  process.exit();
} else {
  parentPort.postMessage(now());
}
JS
node "$folder/threads.mjs"
"$folder/node_modules/.bin/bun" "$folder/threads.mjs"
