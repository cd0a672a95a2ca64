import assert from "node:assert/strict";
import { test } from "node:test";
import { Output } from "../../client/models/output.js";

test("output goes on from where the answer ends, and what comes twice is skipped", () => {
  const output = new Output({ offset: 10, text: "abc" });
  assert.equal(output.take({ offset: 11, text: "bcd" }), true);
  assert.equal(output.take({ offset: 12, text: "cd" }), false);
  assert.equal(output.take({ offset: 14, text: "e" }), true);
  assert.equal(output.text, "abcde");
});

test("offsets count characters, not halves of them", () => {
  const output = new Output({ offset: 0, text: "🙂🙂" });
  output.take({ offset: 1, text: "🙂🙂x" });
  assert.equal(output.text, "🙂🙂🙂x");
});

test("what was missed is said, and a terminal's colours are left out", () => {
  const output = new Output(undefined);
  output.take({ offset: 0, text: "a\u001b[31mred\u001b[0m" });
  output.take({ offset: 1013, text: "b" });
  assert.equal(output.text, "ared\n[1,000 characters missed]\nb");
});

test("of much output only the end is kept", () => {
  const output = new Output(undefined);
  for (let offset = 0; offset < 200_000; offset += 1000) output.take({ offset, text: "x".repeat(999) + "\n" });
  assert.equal(output.text.length, 65_536);
});
