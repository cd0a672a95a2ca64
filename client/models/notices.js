/**
 * What the page says above the lists when something is not as it should be, and what can be done. Pure.
 */

import { instant } from "./format.js";

/** @import { CommandError } from "../follow/connection.js" */

export const CLIENT_MISSING =
  "The Socket.IO client could not be loaded from cdn.socket.io. " +
  "Check that this network and your browser's blockers allow that address, then load this page again.";

/**
 * What is said while there is no connection.
 *
 * @param {number} since milliseconds
 * @param {CommandError | null | undefined} refusal why the server did not let us in, where it said so
 * @param {boolean} known whether there is a list to show
 */
export function offlineNotice(since, refusal, known) {
  const why = refusal ? ` The server says: ${refusal.message}.` : "";
  if (!known) return `The server does not answer. Check that it is running; this page keeps trying.${why}`;
  return `No connection. The list is as it was at ${instant(since / 1000)}. Nothing can be started or killed until it is back.${why}`;
}

/** @param {CommandError} refusal */
export function refusedNotice({ message }) {
  return `The server refuses this page: ${message}.`;
}

/**
 * What is said of names that no room can have, and of rooms that are refused.
 *
 * @param {string[]} wrong
 * @param {[string, CommandError | null][]} rooms each with its refusal
 */
export function roomsNotice(wrong, rooms) {
  const parts = rooms.flatMap(([room, refusal]) => (refusal ? [refusedRoom(room, refusal)] : []));
  if (wrong.length > 0) {
    parts.unshift(
      `There can be no room ${wrong.join(", ")}: a name is made of 1 to 64 letters, digits, dots, dashes and underscores. ` +
        "Correct ?room= in the address.",
    );
  }
  return parts.join(" ");
}

/**
 * @param {string} room
 * @param {CommandError} refusal
 */
function refusedRoom(room, { message, passing }) {
  return passing
    ? `The room ${room} may be out of date: ${message}. This page keeps trying.`
    : `The room ${room} is not open to you: ${message}.`;
}

/**
 * @param {CommandError} refusal
 * @param {string} token that was refused; "" where none was sent
 */
export function whySignIn({ message }, token) {
  if (!token) return "This server needs an access token.";
  return `The server refused your token: ${message}.`;
}
