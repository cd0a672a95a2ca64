import { io } from "socket.io-client";

const { HOURGLASS_URL = "http://127.0.0.1:8000", HOURGLASS_TOKEN: token } = process.env;
const room = "example-javascript";

const socket = io(HOURGLASS_URL, {
  transports: ["websocket"],
  auth: { token, name: "javascript", rooms: [] },
});

/** Give a command; its answer. */
async function command(name, fields) {
  const answer = await socket.emitWithAck(name, { room, ...fields });
  if (!answer.ok) throw Object.assign(new Error(answer.error.message), answer.error);
  return answer;
}

/** The next event of this name. Ask before the command that causes it: the event may come first. */
const heard = (name) => new Promise((resolve) => socket.once(name, resolve));

await new Promise((connected, refused) => {
  socket.once("connect", connected);
  socket.once("connect_error", refused);
});
await command("join");
console.log("joined");

const started = heard("started");
await command("request", { connid: "backup", time: 60 });
console.log("started", (await started).job.connid);

try {
  await command("request", { connid: "backup", time: 60 });
} catch (error) {
  console.log("refused:", error.code);
}

const killed = heard("killed");
await command("kill", { connid: "backup", reason: "enough" });
console.log("killed", (await killed).connid);

const finished = heard("finished");
await command("request", { connid: "report", time: 1 });
const { connid, outcome } = await finished;
console.log(`finished ${connid}: ${outcome}`);

const { jobs } = await command("status");
console.log("running:", jobs.length);
socket.disconnect();
