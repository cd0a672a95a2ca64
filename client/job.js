/** The address that other programs know: see `job/job.js`. */

export * from "./job/job.js";
