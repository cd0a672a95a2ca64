/**
 * What the address says about the view, so that a link shows a colleague the same. Pure.
 *
 *   read("?room=main,ops&only=ops&q=backup&job=12") -> { rooms: ["main", "ops"], only: "ops", … }
 *   // job and run name the job that is open, and `in` its room, where that is not the first one
 *   write(view) -> "?room=main,ops&only=ops&q=backup&job=12"; what is as usual is left out
 */

/**
 * @typedef {object} View what is shown
 * @property {string[]} rooms that are open
 * @property {string} only the one that is shown; "" for all
 * @property {"running" | "ended" | "timeline"} view
 * @property {string} search
 * @property {string} by
 * @property {string} state
 * @property {"left" | "start" | "name"} sort
 * @property {string} span minutes of the timeline
 * @property {string} job the connid of the job that is open; "" for none
 * @property {string} run
 * @property {string} in its room; "" for the first one
 * @property {string[]} wrong rooms in the address that cannot exist
 */

/** @type {View} */
export const USUAL = {
  rooms: ["main"],
  only: "",
  view: "running",
  search: "",
  by: "",
  state: "",
  sort: "left",
  span: "10",
  job: "",
  run: "",
  in: "",
  wrong: [],
};

const KEYS = { only: "only", view: "view", search: "q", by: "by", state: "state", sort: "sort", span: "span" };
/** @type {Record<string, string[]>} */
const CHOICES = {
  view: ["running", "ended", "timeline"],
  sort: ["left", "start", "name"],
  span: ["2", "10", "60", "1440"],
};
const ROOM = /^[A-Za-z0-9._-]{1,64}$/;

/** @param {string} name */
export const isRoom = (name) => ROOM.test(name);

/**
 * The view that an address asks for.
 *
 * @param {string} address its query
 */
export function read(address) {
  const parameters = new URLSearchParams(address);
  const named = (parameters.get("room") ?? "").split(",").filter(Boolean);
  const rooms = [...new Set(named.filter(isRoom))];
  const fields = Object.entries(KEYS).flatMap(([field, key]) => {
    const value = parameters.get(key) ?? "";
    return value && (CHOICES[field]?.includes(value) ?? true) ? [[field, value]] : [];
  });
  /** @type {View} */
  const view = { ...USUAL, ...Object.fromEntries(fields), wrong: named.filter((name) => !isRoom(name)) };
  if (rooms.length > 0) view.rooms = rooms;
  if (!view.rooms.includes(view.only)) view.only = "";
  view.job = parameters.get("job") ?? "";
  view.run = view.job ? (parameters.get("run") ?? "") : "";
  const place = view.job ? (parameters.get("in") ?? "") : "";
  view.in = view.rooms.includes(place) ? place : "";
  return view;
}

/**
 * The address of a view: a query, or "" where all is as usual.
 *
 * @param {View} view
 */
export function write(view) {
  const parameters = new URLSearchParams();
  if (view.rooms.join() !== USUAL.rooms.join()) parameters.set("room", view.rooms.join());
  for (const [field, key] of entriesOf(KEYS)) {
    if (view[field] !== USUAL[field]) parameters.set(key, view[field]);
  }
  if (view.job) {
    parameters.set("job", view.job);
    if (view.run) parameters.set("run", view.run);
    if (view.in && view.in !== view.rooms[0]) parameters.set("in", view.in);
  }
  // Commas may stand in a query as they are, and read better.
  const text = parameters.toString().replaceAll("%2C", ",");
  return text && `?${text}`;
}

/**
 * The address that shows a job to whoever opens it.
 *
 * @param {{ room: string, connid: string, run?: string }} job
 */
export function linkOf({ room, connid, run = "" }) {
  return write({ ...USUAL, rooms: [room], job: connid, run });
}

/**
 * @template {string} Field
 * @param {Record<Field, string>} keys
 */
const entriesOf = (keys) => /** @type {[Field, string][]} */ (Object.entries(keys));
