import assert from "node:assert/strict";
import { test } from "node:test";
import { Order } from "../../client/models/order.js";
import { ORDERS } from "../../client/models/query.js";

const jobOf = (run, deadline) => ({ run, deadline, state: "running" });
const runs = (order) => order.jobs.map(({ run }) => run).join("");

test("jobs are shown in order, also those that come and go", () => {
  const order = new Order();
  order.show([jobOf("b", 2), jobOf("a", 1), jobOf("c", 3)], ORDERS.left);
  assert.equal(runs(order), "abc");
  order.show([jobOf("c", 3), jobOf("a", 1), jobOf("z", 0), jobOf("x", 2)], ORDERS.left);
  assert.equal(runs(order), "zaxc");
});

test("while it is held, rows stay where they are and new ones come in below", () => {
  const order = new Order();
  order.show([jobOf("a", 1), jobOf("b", 2), jobOf("c", 3)], ORDERS.left);
  const ended = { ...jobOf("b", 2), state: "killed" };
  const find = (run) => ({ a: jobOf("a", 9), b: ended })[run];
  order.hold(find, [jobOf("a", 9), jobOf("0", 0)]);
  assert.equal(runs(order), "abc0");
  assert.equal(order.jobs[0].deadline, 9);
  assert.equal(order.jobs[1], ended);
  assert.equal(order.jobs[2].run, "c", "what is no longer known is shown as it was");
  order.show([jobOf("a", 9), jobOf("0", 0)], ORDERS.left);
  assert.equal(runs(order), "0a");
});

test("a held list does not grow without end, and counts who waits", () => {
  const order = new Order();
  order.show([jobOf("a", 1)], ORDERS.left);
  const many = Array.from({ length: 1000 }, (_, index) => jobOf(`n${index}`, index));
  for (const some of [many.slice(0, 150), many]) order.hold(() => undefined, some);
  assert.equal(order.jobs.length, 201);
  assert.equal(order.waiting, 800);
  order.show(many, ORDERS.left);
  assert.equal(order.jobs.length, 1000);
  assert.equal(order.waiting, 0);
});

test("whatever came before, the order is that of a plain sort", () => {
  const order = new Order();
  const jobs = [];
  for (let step = 0; step < 400; step++) {
    const run = `r${String(step).padStart(3, "0")}`;
    jobs.push({ run, connid: `job ${(step * 7) % 40}`, deadline: (step * 37) % 50, started_at: step });
    if (step % 3 === 0) jobs.splice((step * 13) % jobs.length, 1);
    const compare = Object.values(ORDERS)[Math.floor(step / 50) % 3];
    if (step % 11 === 0) order.hold(() => undefined, jobs);
    else order.show(jobs, compare);
    if (step % 11 !== 0) assert.deepEqual(order.jobs, jobs.toSorted(compare), `step ${step}`);
  }
});
