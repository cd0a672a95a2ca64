#!/usr/bin/env bash
# socket.io-client 4.8.3 holds a ping's timeout against the wall clock (`Date.now()`) whenever it emits: a
# date that is set forward by more than pingInterval + pingTimeout ends a line that works, as "ping
# timeout", and what was emitted waits for the next one. The client's own timer, of a clock that cannot
# be set, would not have. A date that is set back does nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund socket.io@4.8.3 socket.io-client@4.8.3 >/dev/null
cat > run.cjs <<'JS'
const { Server } = require("socket.io");
const { io } = require("socket.io-client");
const http = require("node:http").createServer();
const server = new Server(http, { pingInterval: 25_000, pingTimeout: 20_000 });
const real = Date.now;

/** What becomes of a line whose client's date is set by so many seconds before it emits. */
const after = (seconds) =>
  new Promise((resolve) => {
    Date.now = real;
    const url = `http://127.0.0.1:${http.address().port}`;
    const client = io(url, { transports: ["websocket"], reconnection: false, forceNew: true });
    server.once("connection", (line) => line.on("hello", () => resolve("arrived")));
    client.on("disconnect", (reason) => resolve(`closed: ${reason}`));
    client.on("connect", () => {
      Date.now = () => real() + seconds * 1000;
      client.emit("hello");
    });
  });

http.listen(0, "127.0.0.1", async () => {
  const found = [];
  for (const seconds of [0, -3600, 40, 50, 3600]) {
    const what = await after(seconds);
    console.log(`date set by ${seconds} s: ${what}`);
    found.push(what);
  }
  const expected = ["arrived", "arrived", "arrived", "closed: ping timeout", "closed: ping timeout"];
  process.exit(JSON.stringify(found) === JSON.stringify(expected) ? 0 : 1);
});
JS
echo "socket.io-client $(node -p 'require("./node_modules/socket.io-client/package.json").version')"
node run.cjs
