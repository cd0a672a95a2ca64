/** The address that other programs know: see `follow/follow.js`. */

export * from "./follow/follow.js";
