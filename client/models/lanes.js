/**
 * Puts jobs into the lanes of a timeline, so that no two bars of a lane touch. Pure.
 *
 *   const { bars, lanes, left } = layOut(jobs, { from, to, gap, most });
 *   bars -> [{ job, lane, start, end }]; `left` counts jobs for which there was no lane
 *
 * Instants and `gap` are in seconds. A bar goes from its start to its end, or to its deadline. The
 * longest running come first, so that a job keeps its lane while others come and go below it.
 */

/** @import { AnyJob } from "../follow/state.js" */

/**
 * @typedef {{ job: AnyJob, lane: number, start: number, end: number }} Bar
 *
 * @param {AnyJob[]} jobs
 * @param {{ from: number, to: number, gap: number, most: number }} bounds
 */
export function layOut(jobs, { from, to, gap, most }) {
  const spans = jobs
    .map((job) => ({ job, start: job.started_at, end: job.ended_at ?? job.deadline }))
    .filter(({ start, end }) => start < to && end > from)
    .sort((a, b) => a.start - b.start || (a.job.run < b.job.run ? -1 : 1));
  /** @type {number[]} */
  const ends = []; // by lane
  let soonest = Infinity; // of the ends, once there is no lane to add
  /** @type {Bar[]} */
  const bars = [];
  for (const span of spans) {
    if (ends.length >= most && soonest + gap > span.start) continue;
    const free = ends.findIndex((end) => end + gap <= span.start);
    const lane = free < 0 ? ends.length : free;
    ends[lane] = span.end;
    if (ends.length >= most) soonest = Math.min(...ends);
    bars.push({ ...span, lane });
  }
  return { bars, lanes: ends.length, left: spans.length - bars.length };
}
