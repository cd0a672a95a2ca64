/**
 * A real server for the tests of the page's modules, which can be killed and started again.
 *
 *   const server = await serve(t);        // stopped with the test `t`
 *   await server.kill(); await server.start();
 *   server.url; server.ask("request", { connid: "a", time: 60 })   // over HTTP
 */

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

export async function serve(t, environ = {}) {
  const folder = mkdtempSync(join(tmpdir(), "hourglass-"));
  const server = new Server(join(folder, "jobs.db"), environ);
  t.after(async () => {
    await server.kill();
    rmSync(folder, { recursive: true });
  });
  await server.start();
  return server;
}

/** A Redis that forgets everything; `url` and `process`. */
export async function serveRedis(t) {
  const port = 15_000 + Math.floor(Math.random() * 15_000);
  const folder = mkdtempSync(join(tmpdir(), "hourglass-redis-"));
  const args = ["--bind", "127.0.0.1", "--port", port, "--dir", folder, "--save", "", "--appendonly", "no"];
  const redis = spawn("redis-server", args.map(String), { stdio: ["ignore", "pipe", "inherit"] });
  t.after(async () => {
    redis.kill("SIGKILL");
    await new Promise((ended) => redis.once("exit", ended));
    rmSync(folder, { recursive: true });
  });
  for await (const line of createInterface({ input: redis.stdout })) {
    if (line.includes("Ready to accept connections")) break;
  }
  redis.stdout?.resume();
  return { url: `redis://127.0.0.1:${port}/0`, process: redis };
}

/** A token of an operator in the room `main`. */
export async function tokenOf(secret, name) {
  const args = ["-m", "server", "token", "--name", name, "--role", "operator", "--room", "main"];
  const env = { ...process.env, AUTH_SECRET: secret };
  const program = spawn(".venv/bin/python", args, { env, stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  for await (const part of program.stdout) text += part;
  return text.trim();
}

class Server {
  #database;
  #environ;
  #process = null;
  #port = "0";
  url = null;

  constructor(database, environ) {
    this.#database = database;
    this.#environ = environ;
  }

  /** Start it, on a machine whose date is so many seconds ahead. */
  async start(ahead = 0) {
    const env = { ...process.env, PORT: this.#port, DATABASE: this.#database, ...this.#environ };
    const args = ahead ? ["-c", datedBy(ahead)] : ["-m", "server"];
    this.#process = spawn(".venv/bin/python", args, { env, stdio: ["ignore", "pipe", "inherit"] });
    for await (const line of createInterface({ input: this.#process.stdout })) {
      const [url, port] = /http:\/\/127\.0\.0\.1:(\d+)/.exec(line) ?? [];
      if (!url) continue;
      this.url = url;
      this.#port = port;
      return;
    }
    throw new Error("the server did not start");
  }

  async kill() {
    const server = this.#process;
    if (!server || server.exitCode !== null || server.signalCode !== null) return;
    server.kill("SIGKILL");
    await new Promise((ended) => server.once("exit", ended));
  }

  async ask(name, body) {
    const paths = { request: ["POST", "/api/jobs"], kill: ["DELETE", `/api/jobs/${body.connid}`] };
    const [method, path] = paths[name];
    const response = await fetch(this.url + path, { method, body: JSON.stringify(body) });
    return response.json();
  }
}

const datedBy = (ahead) => `
import runpy, time
right = time.time
time.time = lambda: right() + ${ahead}
runpy.run_module("server", run_name="__main__")
`;

/** Wait until `check()` is true, where nothing tells when it becomes so. */
export async function eventually(check, patience = 15_000) {
  const end = Date.now() + patience;
  while (!check()) {
    if (Date.now() > end) throw new Error(`in vain: ${check}`);
    await new Promise((resume) => setTimeout(resume, 5));
  }
}

/** The same as `eventually`, of what has to be asked for. */
export async function until(look, patience = 20_000) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`in vain: ${look}`);
    await new Promise((resume) => setTimeout(resume, 20));
  }
}
