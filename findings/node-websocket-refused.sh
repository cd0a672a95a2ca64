#!/usr/bin/env bash
# The global WebSocket of Node 22.23.3 (undici 6) tells of a connection that was refused by the event `error`
# alone: `close`, which a browser fires after it, never comes, and `readyState` stays 0, which is CONNECTING.
# So a client that reconnects on `close` never tries again. That of Node 24.21.0 (undici 7) fires both.
#
# Prints the versions and what was heard; fails when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/refused.mjs" <<'JS'
import { createServer } from "node:net";

// A port that nobody listens on any more.
const server = createServer().listen(0, "127.0.0.1");
await new Promise((listening) => server.once("listening", listening));
const { port } = server.address();
await new Promise((closed) => server.close(closed));

const heard = [];
const socket = new WebSocket(`ws://127.0.0.1:${port}`);
for (const name of ["error", "close"]) socket.addEventListener(name, () => heard.push(name));
await new Promise((resume) => setTimeout(resume, 2_000));
console.log(`Node ${process.version}, undici ${process.versions.undici}: ${heard}, readyState ${socket.readyState}`);
if (`${heard} ${socket.readyState}` !== process.argv[2]) throw new Error("this has changed");
JS
for expected in "22.23.3 error 0" "24.21.0 error,close 3"; do
  version=${expected%% *}
  mkdir "$folder/$version"
  npm install --silent --no-audit --no-fund --prefix "$folder/$version" "node@$version" > /dev/null
  "$folder/$version/node_modules/.bin/node" "$folder/refused.mjs" "${expected#* }"
done
