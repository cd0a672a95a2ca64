import assert from "node:assert/strict";
import { test } from "node:test";
import { answersOf, commandsOf, eventsOf, routesOf, typeOf } from "../../client/docs/contract.js";
import { serve } from "./server.mjs";

test("a schema is told in a few words", () => {
  const told = [
    [{ type: "string" }, "text"],
    [{ type: ["null", "integer"] }, "whole number or null"],
    [{ enum: ["reject", null, "keep"] }, '"reject" or "keep" or null'],
    [{ type: "array", items: { anyOf: [{ $ref: "#/components/schemas/Job" }, { type: "null" }] } }, "list of Job or null"],
    [{ const: "kill" }, '"kill"'],
    [{}, "any JSON"],
  ];
  for (const [schema, words] of told) assert.equal(typeOf(schema), words);
});

test("the documents of a real server are told whole", async (t) => {
  const { url } = await serve(t);
  const [asyncapi, openapi] = await Promise.all(
    ["/asyncapi.json", "/openapi.json"].map(async (path) => (await fetch(url + path)).json()),
  );
  const kill = commandsOf(asyncapi).find(({ name }) => name === "kill");
  assert.deepEqual(kill.fields.map(({ name, needed }) => [name, needed]), [
    ["connid", true],
    ["room", false],
    ["run", false],
    ["reason", false],
  ]);
  const finished = eventsOf(asyncapi).find(({ name }) => name === "finished");
  assert.deepEqual(finished.fields.filter(({ needed }) => !needed).map(({ name }) => name), ["late"]);
  assert.ok(answersOf(asyncapi).every(({ summary, fields }) => summary !== undefined && fields.length > 1));
  const [list] = routesOf(openapi);
  assert.equal(list.name, "GET /api/jobs");
  for (const { fields } of [...commandsOf(asyncapi), ...eventsOf(asyncapi), ...routesOf(openapi)]) {
    for (const { type } of fields) assert.doesNotMatch(type, /undefined|object Object/);
  }
});
