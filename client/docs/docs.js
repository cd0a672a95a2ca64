/** The page that shows the documents of the contract to people. */

import { answersOf, commandsOf, eventsOf, routesOf } from "./contract.js";
import { byId, make } from "../browser/dom.js";

/**
 * @import { Entry, Field } from "./contract.js"
 *
 * @typedef {{ name: string, size: number, sha256: string }} Download
 */

async function show() {
  const paths = ["/asyncapi.json", "/openapi.json", "/downloads.json"];
  const [asyncapi, openapi, downloads] = await Promise.all(paths.map(fetched));
  fill("commands", commandsOf(asyncapi));
  fill("events", eventsOf(asyncapi));
  fill("answers", answersOf(asyncapi));
  fill("routes", routesOf(openapi));
  byId("downloads").append(...downloads.files.map(offered));
  // A link to a part that was not there yet.
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

/** @param {string} path */
async function fetched(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} was answered ${response.status}`);
  return response.json();
}

/**
 * @param {string} part
 * @param {Entry[]} entries
 */
function fill(part, entries) {
  byId(part).append(...entries.map((entry) => drawn(part, entry)));
}

/** @param {Download} download */
function offered({ name, size, sha256 }) {
  const line = make("p");
  line.append(make("a", name, { href: `/${name}` }), ` ${Math.ceil(size / 1024)} KiB, SHA-256 `, make("code", sha256));
  return line;
}

/**
 * @param {string} part
 * @param {Entry} entry
 */
function drawn(part, { name, summary, fields }) {
  const article = make("article", "", { id: `${part}-${name.replaceAll(/\W+/g, "-")}` });
  const heading = make("h3");
  heading.append(make("code", name));
  article.append(heading);
  if (summary) article.append(make("p", summary));
  if (fields.length > 0) article.append(table(name, fields));
  return article;
}

/**
 * @param {string} name
 * @param {Field[]} fields
 */
function table(name, fields) {
  const drawnTable = make("table");
  drawnTable.setAttribute("aria-label", `Fields of ${name}`);
  const body = make("tbody");
  for (const field of fields) {
    const row = make("tr");
    const first = make("th", "", { scope: "row" });
    first.append(make("code", field.name));
    row.append(first, make("td", field.needed ? field.type : `${field.type}, if given`), make("td", field.about));
    body.append(row);
  }
  drawnTable.append(body);
  return drawnTable;
}

show().catch((error) => {
  byId("problem").textContent = `The contract could not be read: ${error.message}.`;
  byId("problem").hidden = false;
});
