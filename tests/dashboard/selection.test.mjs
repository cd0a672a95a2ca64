import assert from "node:assert/strict";
import { test } from "node:test";
import { Selection } from "../../client/models/selection.js";

test("runs are selected one by one, up to one, or all", () => {
  const selection = new Selection();
  const order = ["a", "b", "c", "d", "e"];
  selection.toggle("b");
  selection.reach("d", order);
  assert.deepEqual(selection.runs(), ["b", "c", "d"]);
  selection.toggle("c");
  assert.deepEqual(selection.runs(), ["b", "d"]);
  selection.add(order);
  assert.equal(selection.size, 5);
  selection.clear();
  assert.equal(selection.size, 0);
});

test("a range also goes up, and without a beginning it is the run alone", () => {
  const selection = new Selection();
  selection.reach("c", ["a", "b", "c"]);
  assert.deepEqual(selection.runs(), ["c"]);
  selection.reach("a", ["a", "b", "c"]);
  assert.deepEqual(selection.runs().sort(), ["a", "b", "c"]);
});

test("what has ended is selected no more", () => {
  const selection = new Selection();
  selection.add(["a", "b"]);
  assert.equal(selection.keep((run) => run === "b"), true);
  assert.deepEqual(selection.runs(), ["b"]);
  assert.equal(selection.keep(() => true), false);
});
