/**
 * What the documents of the contract say, as texts to show. Pure: it knows no page.
 *
 *   commandsOf(asyncapi);    // [{ name, summary, fields: [{ name, type, needed, about }] }]
 *   eventsOf(asyncapi);      // the same
 *   answersOf(asyncapi);     // the same
 *   routesOf(openapi);       // [{ name: "GET /api/jobs", summary, fields }]
 */

export function commandsOf(document) {
  return messagesOf(document, "command.").map((message) => ({
    ...message,
    fields: message.fields.filter(({ name }) => name !== "route"),
  }));
}

export const eventsOf = (document) => messagesOf(document, "event.");

export function answersOf(document) {
  const { schemas } = document.components;
  return ["Answer", "Refusal", "Job", "EndedJob", "Problem"].map((name) => ({
    name,
    summary: firstSentence(schemas[name].description ?? ""),
    fields: fieldsOf(schemas[name]),
  }));
}

export function routesOf(document) {
  return Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, { summary, parameters, requestBody }]) => ({
      name: `${method.toUpperCase()} ${path}`,
      summary,
      fields: [
        ...parameters.map(({ name, schema, required }) => fieldOf(name, schema, required)),
        ...fieldsOf(requestBody?.content["application/json"].schema ?? {}),
      ],
    })),
  );
}

function messagesOf({ components }, prefix) {
  return Object.entries(components.messages)
    .filter(([key]) => key.startsWith(prefix))
    .map(([, { name, summary, payload }]) => ({
      name,
      summary,
      fields: fieldsOf(payload.$ref ? components.schemas[nameOf(payload)] : payload),
    }));
}

function fieldsOf({ properties = {}, required = [] }) {
  return Object.entries(properties).map(([name, schema]) => fieldOf(name, schema, required.includes(name)));
}

function fieldOf(name, schema, needed = false) {
  return { name, type: typeOf(schema), needed, about: schema.description ?? "" };
}

/** A schema in a few words: `text or null`, `list of Job or EndedJob`. */
export function typeOf(schema) {
  if (schema.$ref) return nameOf(schema);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return any(schema.enum.map((value) => JSON.stringify(value)));
  if (schema.anyOf) return any(schema.anyOf.map(typeOf));
  if (schema.type === undefined) return "any JSON";
  return any([schema.type].flat().map((type) => (type === "array" ? `list of ${typeOf(schema.items)}` : WORDS[type] ?? type)));
}

const WORDS = {
  string: "text",
  integer: "whole number",
  boolean: "true or false",
};

/** The alternatives, null last. */
function any(words) {
  const others = words.filter((word) => word !== "null");
  return [...others, ...(words.length > others.length ? ["null"] : [])].join(" or ");
}

const nameOf = ({ $ref }) => $ref.slice($ref.lastIndexOf("/") + 1);

const firstSentence = (text) => /^.*?\.(?=\s|$)/s.exec(text)?.[0] ?? text;
