/**
 * A program that shows its own work, for the tests of `client/job.js`, in Node and Bun.
 *
 *   node job-program.mjs SCENARIO URL [OPTIONS as JSON]
 *
 * It prints a line for each thing that happens, and reads one where it has to wait for the test.
 */

import { createInterface } from "node:readline";
import { job, Killed, track } from "../../client/job.js";

const [scenario, url, options = "{}"] = process.argv.slice(2);
const plan = { time: "10m", url, onProblem: (message) => console.log("problem:", message), ...JSON.parse(options) };

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const toldTo = async (what) => {
  const { value } = await lines.next();
  if (value !== what) throw new Error(`told to ${value}, not to ${what}`);
};

/** What blocks the thread for so many milliseconds. */
const compute = (ms) => {
  for (const end = performance.now() + ms; performance.now() < end; );
};

const aborted = (signal) => new Promise((resolve) => signal.addEventListener("abort", resolve));

const SCENARIOS = {
  async reports() {
    const value = await job("import", plan, async ({ progress, leave }) => {
      progress(0.5, "rows");
      if (options.includes("twice")) {
        await toldTo("report");
        progress(0.9);
      }
      await toldTo("end");
      leave({ rows: 3 });
      return 42;
    });
    console.log("returned", value);
  },

  async reportsLast() {
    await job("import", plan, async ({ progress }) => {
      progress(0.5);
      progress(1, "rows");
    });
  },

  async cleansUp() {
    await job("import", plan, async ({ signal, onKill }) => {
      onKill(({ by, reason }) => console.log("asked by", by, reason));
      console.log("begun");
      await aborted(signal);
      await toldTo("clean");
      throw signal.reason;
    });
  },

  async computes() {
    const value = await job("import", plan, () => {
      console.log("begun");
      compute(3_000);
      return 42;
    });
    console.log("returned", value);
  },

  async computesUntilKilled() {
    await job("import", plan, ({ progress }) => {
      console.log("begun");
      for (let step = 0; ; step++) progress(null, `step ${step}`);
    });
  },

  async tracks() {
    for await (const item of track(["a", "b", "c"], "import", plan)) {
      console.log("item", item);
      await toldTo("go on");
    }
    console.log("whole");
  },

  async tracksUntilKilled() {
    // Nothing else of the program gets to run in this loop, as it waits for nothing.
    for await (const item of track(endless(), "import", plan)) if (item === 0) console.log("begun");
  },

  async breaks() {
    for await (const item of track(["a", "b", "c"], "import", plan)) if (item === "b") break;
    console.log("broken off");
  },

  async fails() {
    await job("import", plan, async () => {
      await toldTo("fail");
      throw new Error("no such file");
    });
  },

  async isStoppedByItself() {
    const controller = new AbortController();
    await job("import", { ...plan, signal: controller.signal }, async ({ signal }) => {
      setTimeout(() => controller.abort(new Error("enough")));
      await aborted(signal);
      throw signal.reason;
    });
  },

  async exits() {
    job("import", plan, () => new Promise(() => {}));
    await toldTo("exit");
    process.stdin.destroy();
    console.log("exiting");
  },

  async hasNames() {
    await Promise.all(
      ["first", "second"].map(() =>
        job("import", plan, async () => {
          await toldTo("end");
        }),
      ),
    );
  },
};

/** Jobs of all kinds, eight at a time, each of which may be killed at any instant. */
SCENARIOS.isKilledAtRandom = async () => {
  const wait = (ms, signal) =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, ms);
      signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)));
    });
  const kinds = [
    ({ signal }) => wait(60_000, signal), // Ends by a kill alone.
    ({ signal }) => wait(Math.random() * 60, signal),
    ({ progress }) => {
      for (const end = performance.now() + Math.random() * 60; performance.now() < end; ) progress();
    },
    async ({ signal, progress }) => {
      for (let step = 0; step < 5; step++) {
        progress(step / 5);
        await wait(Math.random() * 10, signal);
      }
    },
    ({ signal }) => wait(Math.random() * 60, signal).finally(() => compute(5)),
    // Work that pays no heed to its signal.
    () => wait(Math.random() * 60, new AbortController().signal),
  ];
  const numbers = Array.from({ length: Number(plan.note) }, (_, number) => number).values();
  const work = async () => {
    for (const number of numbers) {
      try {
        await job(`job-${number}`, plan, kinds[number % kinds.length]);
        console.log(`job-${number} returned`);
      } catch (error) {
        console.log(`job-${number} ${error.name}`);
      }
    }
  };
  await Promise.all(Array.from({ length: 8 }, work));
};

function* endless() {
  for (let item = 0; ; item++) yield item;
}

try {
  await SCENARIOS[scenario]();
} catch (error) {
  console.log(error instanceof Killed ? "stopped:" : "failed:", error.name, error.message);
}
process.stdin.destroy();
