/**
 * What the documents of the contract say, as texts to show. Pure: it knows no page.
 *
 *   commandsOf(asyncapi);    // [{ name, summary, fields: [{ name, type, needed, about }] }]
 *   eventsOf(asyncapi);      // the same
 *   answersOf(asyncapi);     // the same
 *   routesOf(openapi);       // [{ name: "GET /api/jobs", summary, fields }]
 */

/**
 * @typedef {Record<string, any>} Schema of JSON Schema, or a document of them
 * @typedef {{ name: string, type: string, needed: boolean, about: string }} Field
 * @typedef {{ name: string, summary: string, fields: Field[] }} Entry
 */

/**
 * @param {Schema} document
 * @returns {Entry[]}
 */
export function commandsOf(document) {
  return messagesOf(document, "command.").map((message) => ({
    ...message,
    fields: message.fields.filter(({ name }) => name !== "route"),
  }));
}

/** @param {Schema} document */
export const eventsOf = (document) => messagesOf(document, "event.");

/**
 * @param {Schema} document
 * @returns {Entry[]}
 */
export function answersOf(document) {
  const { schemas } = document.components;
  return ["Answer", "Refusal", "Job", "EndedJob", "Problem"].map((name) => ({
    name,
    summary: firstSentence(schemas[name].description ?? ""),
    fields: fieldsOf(schemas[name]),
  }));
}

/**
 * @param {Schema} document
 * @returns {Entry[]}
 */
export function routesOf(document) {
  return entriesOf(document.paths).flatMap(([path, operations]) =>
    entriesOf(operations).map(([method, { summary, parameters, requestBody }]) => ({
      name: `${method.toUpperCase()} ${path}`,
      summary,
      fields: [
        ...parameters.map((/** @type {Schema} */ { name, schema, required }) => fieldOf(name, schema, required)),
        ...fieldsOf(requestBody?.content["application/json"].schema ?? {}),
      ],
    })),
  );
}

/**
 * @param {Schema} document
 * @param {string} prefix
 * @returns {Entry[]}
 */
function messagesOf({ components }, prefix) {
  return entriesOf(components.messages)
    .filter(([key]) => key.startsWith(prefix))
    .map(([, { name, summary, payload }]) => ({
      name,
      summary,
      fields: fieldsOf(payload.$ref ? components.schemas[nameOf(payload)] : payload),
    }));
}

/** @param {Schema} schema */
function fieldsOf({ properties = {}, required = [] }) {
  return entriesOf(properties).map(([name, schema]) => fieldOf(name, schema, required.includes(name)));
}

/**
 * @param {string} name
 * @param {Schema} schema
 * @returns {Field}
 */
function fieldOf(name, schema, needed = false) {
  return { name, type: typeOf(schema), needed, about: schema.description ?? "" };
}

/**
 * A schema in a few words: `text or null`, `list of Job or EndedJob`.
 *
 * @param {Schema} schema
 * @returns {string}
 */
export function typeOf(schema) {
  if (schema.$ref) return nameOf(schema);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return any(schema.enum.map((/** @type {unknown} */ value) => JSON.stringify(value)));
  if (schema.anyOf) return any(schema.anyOf.map(typeOf));
  if (schema.type === undefined) return "any JSON";
  return any([schema.type].flat().map((type) => (type === "array" ? `list of ${typeOf(schema.items)}` : WORDS[type] ?? type)));
}

/** @type {Record<string, string>} */
const WORDS = {
  string: "text",
  integer: "whole number",
  boolean: "true or false",
};

/**
 * The alternatives, null last.
 *
 * @param {string[]} words
 */
function any(words) {
  const others = words.filter((word) => word !== "null");
  return [...others, ...(words.length > others.length ? ["null"] : [])].join(" or ");
}

/** @type {(object: Record<string, Schema>) => [string, Schema][]} */
const entriesOf = Object.entries;

/** @param {Schema} schema */
const nameOf = ({ $ref }) => $ref.slice($ref.lastIndexOf("/") + 1);

/** @param {string} text */
const firstSentence = (text) => /^.*?\.(?=\s|$)/s.exec(text)?.[0] ?? text;
