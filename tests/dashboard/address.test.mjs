import assert from "node:assert/strict";
import { test } from "node:test";
import { read, USUAL, write } from "../../client/models/address.js";

test("an empty address is the usual view, which needs no address", () => {
  assert.deepEqual(read(""), { ...USUAL, wrong: [] });
  assert.equal(write(USUAL), "");
});

test("what is written is read again", () => {
  const view = {
    ...{ rooms: ["main", "ops"], only: "ops", view: "ended", search: "a & b=c #1", by: "ána", state: "lost" },
    ...{ sort: "name", span: "60", job: "nightly, 100% +1", run: "r1", in: "ops" },
  };
  assert.deepEqual(read(write(view)), { ...view, wrong: [] });
  assert.match(write(view), /^\?room=main,ops&only=ops&/);
});

test("what cannot be is left out", () => {
  const view = read("?room=ok,no%20good,ok,<b>&only=other&view=secret&sort=age&span=7&run=r1");
  assert.deepEqual(view, { ...USUAL, rooms: ["ok"], wrong: ["no good", "<b>"] });
});

test("a link of an earlier version still opens its room", () => {
  assert.deepEqual(read("?room=deploys").rooms, ["deploys"]);
});
