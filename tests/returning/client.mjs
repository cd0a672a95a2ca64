/** A dashboard in JavaScript that prints what it hears: see `README.md`. */

import { readFileSync } from "node:fs";
import { io } from "socket.io-client";

const since = {};

const socket = io(process.env.URL, {
  transports: [process.env.TRANSPORT],
  auth: (say) => {
    const token = readFileSync(process.env.TOKEN_FILE, "utf8");
    say({ token, rooms: ["main"], since: since.epoch ? { main: since } : {} });
  },
});
socket.on("snapshot", ({ epoch, seq }) => {
  console.log("snapshot");
  Object.assign(since, { epoch, seq });
});
socket.on("started", ({ seq, job }) => {
  console.log("started", job.connid);
  since.seq = seq;
});
socket.on("closing", ({ code }) => console.log("closing", code));
