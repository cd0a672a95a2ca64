import assert from "node:assert/strict";
import test from "node:test";

import { Backoff } from "../../client/follow/backoff.js";

const within = (ms, least, most) => assert.ok(ms >= least && ms <= most, `${ms} is not in ${least}–${most}`);

test("waits get longer up to a bound, and begin anew after a success", () => {
  const backoff = new Backoff(1_000, 15_000);
  for (const due of [1_000, 2_000, 4_000, 8_000, 15_000, 15_000]) within(backoff.next(), due / 2, due);
  assert.equal(backoff.attempts, 6);
  backoff.reset();
  within(backoff.next(), 500, 1_000);
});

test("a limit holds, and is no less than the first wait", () => {
  const backoff = new Backoff(500, 15_000);
  backoff.limit(3_000);
  for (const due of [500, 1_000, 2_000, 3_000]) within(backoff.next(), due / 2, due);
  backoff.limit(10);
  within(backoff.next(), 250, 500);
});
