/**
 * What the address says about the view, so that a link shows a colleague the same. Pure.
 *
 *   read("?room=main,ops&only=ops&q=backup&job=12") -> { rooms: ["main", "ops"], only: "ops", … }
 *   // job and run name the job that is open, and `in` its room, where that is not the first one
 *   write(view) -> "?room=main,ops&only=ops&q=backup&job=12"; what is as usual is left out
 */

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
};

const KEYS = { only: "only", view: "view", search: "q", by: "by", state: "state", sort: "sort", span: "span" };
const CHOICES = {
  view: ["running", "ended", "timeline"],
  sort: ["left", "start", "name"],
  span: ["2", "10", "60", "1440"],
};
const ROOM = /^[A-Za-z0-9._-]{1,64}$/;

export const isRoom = (name) => ROOM.test(name);

/** The view that an address asks for; `wrong` lists the rooms in it that cannot exist. */
export function read(address) {
  const parameters = new URLSearchParams(address);
  const named = (parameters.get("room") ?? "").split(",").filter(Boolean);
  const rooms = [...new Set(named.filter(isRoom))];
  const view = { ...USUAL, wrong: named.filter((name) => !isRoom(name)) };
  if (rooms.length > 0) view.rooms = rooms;
  for (const [field, key] of Object.entries(KEYS)) {
    const value = parameters.get(key) ?? "";
    if (value && (CHOICES[field]?.includes(value) ?? true)) view[field] = value;
  }
  if (!view.rooms.includes(view.only)) view.only = "";
  view.job = parameters.get("job") ?? "";
  view.run = view.job ? (parameters.get("run") ?? "") : "";
  const place = view.job ? (parameters.get("in") ?? "") : "";
  view.in = view.rooms.includes(place) ? place : "";
  return view;
}

export function write(view) {
  const parameters = new URLSearchParams();
  if (view.rooms.join() !== USUAL.rooms.join()) parameters.set("room", view.rooms.join());
  for (const [field, key] of Object.entries(KEYS)) {
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
