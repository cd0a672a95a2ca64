import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { test } from "node:test";

const IMPORT = /^(?:import|export) [^;"]*from "(\.[^"]*)"/gm;

test("no module imports itself, however far around", () => {
  const modules = readdirSync("client", { recursive: true }).filter((name) => name.endsWith(".js"));
  const imports = new Map(modules.map((name) => [name, importsOf(name)]));
  const done = new Set();

  function follow(name, path) {
    assert.ok(!path.includes(name), [...path, name].join(" → "));
    if (done.has(name)) return;
    for (const next of imports.get(name)) follow(next, [...path, name]);
    done.add(name);
  }

  for (const name of modules) follow(name, []);
  assert.ok(modules.length > 50 && imports.get("app/app.js").length > 20, "they were read");
});

function importsOf(name) {
  const text = readFileSync(join("client", name), "utf8");
  return [...text.matchAll(IMPORT)].map(([, path]) => normalize(join(dirname(name), path)));
}
