/** What the program in each language does with the client that is made for it. */

import createClient from "openapi-fetch";
import type { components, paths } from "./build/api.js";

type Job = components["schemas"]["Job"];
type EndedJob = components["schemas"]["EndedJob"];

const api = createClient<paths>({ baseUrl: process.env.HOURGLASS_URL });
const query = { name: "typescript" };
const named = { query, path: { connid: "a/b" } };

const started = await api.POST("/api/jobs", {
  params: { query },
  body: { connid: "a/b", time: 60, note: "weekly" },
});
const job = started.data!.job as Job;
console.log(`started ${job.connid} by ${job.by} for ${(job.deadline - job.started_at).toFixed(0)}`);
const again = await api.POST("/api/jobs", { params: { query }, body: { connid: "a/b", time: 60 } });
console.log(`refused: ${again.response.status} ${again.error!.error.code}`);
const other = await api.POST("/api/jobs", {
  params: { query },
  body: { connid: 12, time: 60, if_running: "keep" },
});
console.log(`started ${other.data!.job!.connid}`);
const status = await api.GET("/api/jobs", { params: { query: { room: "main" } } });
console.log(`running: ${status.data!.jobs!.length}`);
const one = await api.GET("/api/jobs/{connid}", { params: named });
console.log(`the same: ${one.data!.jobs![0].run === job.run}`);

const kill = await api.DELETE("/api/jobs/{connid}", {
  params: { ...named, query: { ...query, reason: "enough" } },
});
const killed = kill.data!.job as EndedJob;
console.log(`${killed.state} via ${killed.via}: ${killed.reason}`);
const stopped = await api.POST("/api/jobs/{connid}/stopped", {
  params: named,
  body: { run: job.run, exit: 4294967295 },
});
console.log(`exit ${(stopped.data!.job as EndedJob).exit}`);
const history = await api.GET("/api/history", { params: { query: { connid: "a/b", limit: 1 } } });
const last = history.data!.jobs![0] as EndedJob;
console.log(`history: ${last.note} ${last.exit}`);

const since = `${started.data!.epoch}:0`;
const missed = await api.GET("/api/jobs", { params: { query: { since } } });
for (const { event } of missed.data!.events!) console.log(`event ${event}`);
