/** What each key of `views/keys.js` does. */

import { byId } from "../browser/dom.js";
import { say } from "../views/toasts.js";

/**
 * @typedef {object} Page what the keys operate
 * @property {import("./navigation.js").Navigation} navigation
 * @property {import("../views/board.js").Board} board
 * @property {import("../views/ended.js").Ended} ended
 * @property {import("../views/detail.js").Detail} detail
 * @property {import("../views/kills.js").Kills} kills
 * @property {import("../views/start.js").Start} start
 * @property {import("../views/signin.js").SignIn} signIn
 * @property {import("../views/notify.js").Watches} watches
 * @property {() => void} changed
 */

/**
 * The commands of the keyboard, by name. One that returns false leaves the key to the browser.
 *
 * @param {Page} page
 * @returns {Record<string, import("../views/keys.js").KeyCommand>}
 */
export function shortcuts({ navigation, board, ended, detail, kills, start, signIn, watches, changed }) {
  const rows = () => (navigation.view.view === "ended" ? ended.rows : board.rows);
  const activeOfBoard = () => (board.rows.focused ? board.rows.active : null);

  /** @param {(list: import("../views/virtual.js").VirtualRows) => number} by */
  const walk = (by) => (/** @type {KeyboardEvent} */ press) => {
    const { target } = press;
    const inList = rows().focused || target === document.body || target === byId("detail-title");
    if (!inList || navigation.view.view === "timeline") return false;
    rows().move(by(rows()));
    return true;
  };

  /** @param {"running" | "ended" | "timeline"} view */
  const show = (view) => () => navigation.go({ view, state: "" }, { push: true });

  /** @param {() => void} act */
  const asOperator = (act) => () => {
    if (signIn.operator) act();
  };

  /** @param {boolean} reach */
  const select = (reach) =>
    asOperator(() => {
      const job = activeOfBoard();
      if (job) board.toggle(job, reach);
    });

  const watch = async () => {
    const job = activeOfBoard() ?? detail.job;
    if (job?.state !== "running") return;
    say(`${job.connid}: ${await watches.toggle(job)}`);
    changed();
  };

  return {
    search: () => byId("search").focus(),
    start: asOperator(() => start.focus()),
    down: walk(() => 1),
    up: walk(() => -1),
    pageDown: walk((list) => list.page),
    pageUp: walk((list) => -list.page),
    first: walk(() => -Infinity),
    last: walk(() => Infinity),
    open: () => {
      const { active } = rows();
      if (active) navigation.openJob(active);
    },
    select: select(false),
    reach: select(true),
    selectAll: asOperator(() => {
      if (navigation.view.view === "running") board.selectAll();
    }),
    kill: asOperator(() => {
      if (detail.focused && detail.job) kills.ask([detail.job]);
      else if (navigation.view.view === "running") board.killSelected();
    }),
    watch: () => void watch(),
    running: show("running"),
    ended: show("ended"),
    timeline: show("timeline"),
    escape: ({ target }) => {
      if (navigation.view.job) navigation.closeJob();
      else if (target === byId("search")) byId("search").blur();
      else if (board.selection.size > 0) board.clearSelection();
      else return false;
      return true;
    },
    help: () => byId("help", HTMLDialogElement).showModal(),
  };
}
