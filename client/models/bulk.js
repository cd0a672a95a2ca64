/**
 * Kill many jobs, a few at a time, and keep count of what became of them. Pure.
 *
 *   const told = await killAll(jobs, (job) => connection.command("kill", …), { onProgress, signal });
 *   told -> { killed, gone, unsent, failed: [{ job, error }] }
 *
 * `gone` had ended before; `unsent` were not tried, since the line broke or the `signal` said stop.
 * A kill that was not answered is among the failed and is not tried again.
 */

const AT_ONCE = 32;

export async function killAll(jobs, kill, { onProgress = () => {}, signal, pause = wait } = {}) {
  const told = { killed: 0, gone: 0, unsent: 0, failed: [] };
  const waiting = jobs.values();
  let broken = false;

  async function work() {
    for (const job of waiting) {
      if (broken || signal?.aborted) told.unsent += 1;
      else await one(job);
      onProgress(told);
    }
  }

  async function one(job) {
    try {
      await kill(job);
      told.killed += 1;
    } catch (error) {
      if (error.code === "rate_limited") return pause(error.retryAfter ?? 1).then(() => again(job));
      if (error.code === "not_running") told.gone += 1;
      else if (error.code === "offline") told.unsent += 1;
      else told.failed.push({ job, error });
      if (error.code === "offline") broken = true;
    }
  }

  async function again(job) {
    if (broken || signal?.aborted) told.unsent += 1;
    else await one(job);
  }

  await Promise.all(Array.from({ length: Math.min(AT_ONCE, jobs.length) }, work));
  return told;
}

const wait = (seconds) => new Promise((resume) => setTimeout(resume, seconds * 1000));
