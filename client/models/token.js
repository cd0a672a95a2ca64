/**
 * Reads what a token says, for display alone: only the server can tell whether it is true. Pure.
 *
 *   claims("eyJ…") -> { name: "ana", role: "viewer", rooms: ["ops-*"], expires: 1763899200 }
 *   claims("nonsense") -> null
 */

/**
 * @typedef {{ name: string, role: string, rooms: string[], expires?: number }} Claims
 */

/**
 * @param {string} token
 * @returns {Claims | null}
 */
export function claims(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    const { sub, role = "viewer", rooms = [], exp } = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof sub !== "string") return null;
    return { name: sub, role, rooms: Array.isArray(rooms) ? rooms : [], expires: exp };
  } catch {
    return null;
  }
}

/**
 * The token in the fragment of a link, `#token=…`; null where there is none.
 *
 * @param {string} fragment
 */
export function tokenOf(fragment) {
  return new URLSearchParams(fragment.replace(/^#/, "")).get("token");
}
