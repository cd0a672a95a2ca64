/**
 * What the page says above the lists when something is not as it should be, and what can be done. Pure.
 */

import { instant } from "./format.js";

export const CLIENT_MISSING =
  "The Socket.IO client could not be loaded from cdn.socket.io. " +
  "Check that this network and your browser's blockers allow that address, then load this page again.";

/** What is said while there is no connection; `known` is whether there is a list to show. */
export function offlineNotice({ since, refusal }, known) {
  const why = refusal ? ` The server says: ${refusal.message}.` : "";
  if (!known) return `The server does not answer. Check that it is running; this page keeps trying.${why}`;
  return `No connection. The list is as it was at ${instant(since / 1000)}. Nothing can be started or killed until it is back.${why}`;
}

export function refusedNotice({ refusal }) {
  return `The server does not let this page in: ${refusal.message}.`;
}

/** What is said of names that no room can have, and of `[room, refusal]`s; a refusal may be null. */
export function roomsNotice(wrong, rooms) {
  const refused = rooms.filter(([, refusal]) => refusal);
  const parts = refused.map(([room, { message, passing }]) =>
    passing
      ? `The room ${room} may not be shown as it is now: ${message}. This page keeps trying.`
      : `The room ${room} is not open to you: ${message}.`,
  );
  if (wrong.length > 0) {
    parts.unshift(
      `There can be no room ${wrong.join(", ")}: a name is made of 1 to 64 letters, digits, dots, dashes and underscores. ` +
        "Correct ?room= in the address.",
    );
  }
  return parts.join(" ");
}

export function whySignIn({ message }, token) {
  if (!token) return "This server shows its jobs to those who have a token.";
  return `The server did not take your token: ${message}.`;
}
