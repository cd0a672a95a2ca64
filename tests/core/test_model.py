"""Random commands against a model in plain Python: log, snapshot and model always agree."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from server.app import App
from server.board import Board
from server.config import Config
from server.contract.messages import LOG_EVENTS
from tests.support import redis
from tests.support.replay import replay_log
from tests.support.servers import DEFAULTS, Clock, command, seen
from tests.support.soak import SOAK

CONNIDS = st.sampled_from(["a", "b", "c"])
ROOMS = st.sampled_from(["main", "ops"])
RUNS = st.sampled_from(["right", "last", "wrong"])
TIMES = st.integers(1, 50)
KEYS = st.sampled_from([None, None, "x", "y"])
KEEP = 600


class Model(RuleBasedStateMachine):
    """The service and, beside it, what it should say."""

    def log(self) -> dict[str, Any]:
        """The settings of a new log that outlives its server."""
        return {"database": str(Path(self.folder.name) / "jobs.db")}

    @initialize()
    def begin(self) -> None:
        self.folder = TemporaryDirectory()
        self.settings = self.log()
        self.clock = Clock()
        # By how much the server's time is ahead of what the clock has counted.
        self.ahead = 0.0
        self.runner = asyncio.Runner()
        self.running: dict[tuple[str, str], dict[str, Any]] = {}
        self.ended: dict[str, list[dict[str, Any]]] = {"main": [], "ops": []}
        self.seqs = {"main": 0, "ops": 0}
        self.floor = 0
        self.begins = {"main": 0, "ops": 0}
        self.last_at = {"main": 0.0, "ops": 0.0}
        self._start_server()

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.app.stop())
            self.runner.close()
            self.folder.cleanup()

    @rule(
        room=ROOMS,
        connid=CONNIDS,
        time=TIMES,
        lease=st.none() | TIMES,
        how=st.sampled_from(["reject", "keep", "replace"]),
        key=KEYS,
    )
    def request(
        self, room: str, connid: str, time: int, lease: int | None, how: str, key: str | None
    ) -> None:
        before = self.running.get((room, connid))
        same = self._started_with(room, connid, key) if key else None
        given = {"time": time, "lease": lease, "if_running": how, "key": key}
        answer = self._do("request", room, connid, **given)
        if same:
            assert (answer["result"], answer["repeated"]) == ("started", True)
            assert answer["seq"] == self.seqs[room]
            assert answer["job"] == without(same, "renewed")
            return
        assert "repeated" not in answer
        if before and how == "reject":
            assert self._code(answer) == "conflict"
            assert answer["job"]["run"] == before["run"]
        elif before and how == "keep":
            assert (answer["result"], answer["job"]["run"]) == ("exists", before["run"])
        else:
            if before:
                self._end(room, connid, "killed", reason="replaced")
            self.seqs[room] += 1
            assert (answer["result"], answer["seq"]) == ("started", self.seqs[room])
            job = answer["job"]
            assert (job["time"], job["lease"], job["started_at"]) == (time, lease, self.now)
            renewed = self.last_at[room] = self.now
            self.running[room, connid] = {**job, "renewed": renewed, "progress": None}

    @rule(room=ROOMS, connid=CONNIDS, which=RUNS | st.none())
    def kill(self, room: str, connid: str, which: str | None) -> None:
        run = self._run(room, connid, which) if which else None
        before = self.running.get((room, connid))
        answer = self._do("kill", room, connid, run=run)
        if before and run in (None, before["run"]):
            self._end(room, connid, "killed")
            assert answer["seq"] == self.seqs[room]
        else:
            assert self._code(answer) == "not_running"

    @rule(room=ROOMS, connid=CONNIDS, which=RUNS | st.none(), time=TIMES, seen=st.booleans())
    def extend(self, room: str, connid: str, which: str | None, time: int, seen: bool) -> None:
        run = self._run(room, connid, which) if which else None
        before = self.running.get((room, connid))
        deadline = before["deadline"] + (0 if seen else 1) if before else 1
        answer = self._do("extend", room, connid, run=run, time=time, deadline=deadline)
        if not before or run not in (None, before["run"]):
            assert self._code(answer) == "not_running"
        elif not seen:
            assert self._code(answer) == "conflict"
            assert answer["job"] == without(before, "renewed")
        else:
            before["time"] += time
            before["deadline"] += time
            self.seqs[room] += 1
            self.last_at[room] = self.now
            assert (answer["result"], answer["seq"]) == ("extended", self.seqs[room])
            assert answer["job"] == without(before, "renewed")

    @rule(room=ROOMS, connid=CONNIDS, which=RUNS, outcome=st.sampled_from(["done", "failed"]))
    def finish(self, room: str, connid: str, which: str, outcome: str) -> None:
        run = self._run(room, connid, which)
        before = self.running.get((room, connid))
        answer = self._do("finish", room, connid, run=run, outcome=outcome, result={"n": 1})
        if before and run == before["run"]:
            self._end(room, connid, "finished", outcome=outcome, result={"n": 1})
        elif lost := [j for j in self.ended[room] if j["run"] == run and j["outcome"] == "lost"]:
            self.seqs[room] += 1
            self.last_at[room] = self.now
            lost[0].update(outcome=outcome, result={"n": 1}, amended_at=self.now)
            assert (answer["result"], answer["seq"]) == ("amended", self.seqs[room])
            assert answer["job"] == lost[0]
        else:
            assert self._code(answer) == "not_running"

    @rule(room=ROOMS, connid=CONNIDS, which=RUNS, done=st.none() | st.floats(0, 1))
    def progress(self, room: str, connid: str, which: str, done: float | None) -> None:
        run = self._run(room, connid, which)
        before = self.running.get((room, connid))
        answer = self._do("progress", room, connid, run=run, done=done)
        if before and run == before["run"]:
            assert answer["ok"]
            before["renewed"] = self.now
            said = before["progress"] or {"done": None}
            if done not in (None, said["done"]):
                before["progress"] = {"done": done, "note": None, "at": self.now}
        else:
            assert self._code(answer) == "not_running"

    @rule(room=ROOMS, connid=CONNIDS, which=RUNS, exit=st.integers(-1, 255))
    def stopped(self, room: str, connid: str, which: str, exit: int) -> None:
        run = self._run(room, connid, which)
        ended = [j for j in self.ended[room] if j["run"] == run]
        answer = self._do("stopped", room, connid, run=run, exit=exit)
        told = bool(ended) and ended[0]["stopped_at"] is not None
        if not ended or (ended[0]["outcome"] in ("done", "failed") and not told):
            assert self._code(answer) == "not_running"
            return
        if not told:
            self.seqs[room] += 1
            ended[0].update(exit=exit, stopped_at=self.now)
            self.last_at[room] = self.now
        assert answer["ok"] and answer["job"] == ended[0]

    @rule(seconds=st.integers(1, 30))
    def pass_time(self, seconds: int) -> None:
        self.clock.now += seconds
        self.runner.run(self._end_due())
        self._elapse(late=False)

    @rule(seconds=st.sampled_from([-100_000, -300, 300, 100_000]))
    def set_date(self, seconds: int) -> None:
        """Set the date of the machine: nothing comes of it."""
        self.clock.set_by += seconds
        self.runner.run(self._end_due())

    @rule()
    def rest(self) -> None:
        """Evict the rooms in which nothing is running as a long time begins."""
        idle = set(self.seqs) - {room for room, _ in self.running}
        self.clock.now += KEEP + 1
        self.runner.run(self._end_due())
        self._elapse(late=False)
        self.runner.run(self.app.store.sweep())
        for room in idle:
            if self.seqs[room] > self.begins[room]:
                self.floor = max(self.floor, self.seqs[room] + 1)
                self.begins[room] = self.seqs[room]
                self.ended[room] = []
                self.last_at[room] = 0

    @rule(seconds=st.integers(0, 30))
    @precondition(lambda self: hasattr(self, "app"))
    def restart(self, seconds: int) -> None:
        epoch = self.app.store.epoch
        self.runner.run(self.app.stop())
        before = self.now
        self.clock.now += seconds
        self.ahead = self.begin_time(before) - self.clock.now
        for job in self.running.values():
            job["renewed"] = self.now
        self._start_server()
        assert self.app.store.now() == self.now
        assert self.app.store.epoch == epoch
        self.runner.run(self._end_due())
        self._elapse(late=True)

    @invariant()
    def log_snapshot_and_model_agree(self) -> None:
        if not hasattr(self, "app"):
            return
        for room, seq in self.seqs.items():
            if seq == self.begins[room]:
                self.seqs[room] = self.begins[room] = seq = self.floor
            board = self.runner.run(self.app.store.board(room))
            assert board.seq == seq
            shown = seen([*board.running.values()])
            expected = [job for (where, _), job in self.running.items() if where == room]
            assert by_run(shown) == by_run([without(job, "renewed") for job in expected])
            ended = seen(list(board.ended))
            assert ended == [*self.ended[room]][-50:]
            self._assert_log_agrees(room, board)

    def _assert_log_agrees(self, room: str, board: Board) -> None:
        begin = self.begins[room]
        since = {"epoch": self.app.store.epoch, "seq": begin}
        answer = self._do("status", room, None, since=since)
        events = answer["events"]
        dashboard = replay_log(events, self.app.store.epoch, begin)
        assert dashboard.seq == board.seq
        assert set(dashboard.running) == set(board.running)
        replayed = Board(room, begin)
        for event in events:
            kind = LOG_EVENTS[event["event"]]
            replayed.apply(msgspec.json.decode(msgspec.json.encode(event), type=kind))
        plain = [without(seen(job), "progress") for job in replayed.ended]
        kept = [without(seen(job), "progress") for job in board.ended]
        assert plain == kept
        assert [without(job, "progress") for job in dashboard.ended] == plain
        if begin:
            before = {**since, "seq": begin - 1}
            assert "events" not in self._do("status", room, None, since=before)

    @property
    def now(self) -> float:
        """The time by which jobs are counted."""
        return self.clock.now + self.ahead

    def begin_time(self, before: float) -> float:
        """The time with which a server begins, where it was `before` as the last one stopped."""
        if self.running:
            return self.now
        return max(self.clock(), *self.last_at.values())

    def _start_server(self) -> None:
        async def start() -> App:
            app = App(
                config_with(**self.settings, room_retention=KEEP), self.clock, self.clock.steady
            )
            await app.start()
            return app

        self.app = self.runner.run(start())

    async def _end_due(self) -> None:
        await self.app.timeouts.end_due()
        for room, connid in self.running:  # The server's own task may have been faster.
            await self.app.store.running(room, connid)

    def _do(self, name: str, room: str, connid: str | None, **fields: Any) -> dict[str, Any]:
        return self.runner.run(command(self.app, name, room=room, connid=connid, **fields))

    def _run(self, room: str, connid: str, which: str) -> str:
        job = self.running.get((room, connid))
        past = [job for job in self.ended[room] if job["connid"] == connid]
        if which == "right" and job:
            return job["run"]
        if which == "last" and past:
            return past[-1]["run"]
        return "wrong"

    def _started_with(self, room: str, connid: str, key: str) -> dict[str, Any] | None:
        """The job that was started under a connid with a key."""
        known = [self.running.get((room, connid)), *reversed(self.ended[room])]
        same = (connid, key)
        return next((job for job in known if job and (job["connid"], job.get("key")) == same), None)

    def _end(self, room: str, connid: str, state: str, **how: Any) -> None:
        job = without(self.running.pop((room, connid)), "renewed")
        self.seqs[room] += 1
        self.last_at[room] = self.now
        defaults = {"reason": None, "outcome": None, "result": None, "late": False, "exit": None}
        self.ended[room].append(
            {
                **job,
                **defaults,
                "state": state,
                "seq": self.seqs[room],
                "ended_at": self.now,
                "started_by": "ana",
                "via": "socket" if state == "killed" else None,
                "stopped_at": None,
                **how,
            }
        )

    def _elapse(self, late: bool) -> None:
        """End in the model what is due, in the order in which the server ends it."""

        def due_at(job: dict[str, Any]) -> float:
            lease = job["renewed"] + job["lease"] if job["lease"] else job["deadline"]
            return min(job["deadline"], lease)

        due = [(due_at(job), job["run"], key, job) for key, job in self.running.items()]
        due = [item for item in sorted(due, key=lambda item: item[:2]) if item[0] <= self.now]
        for at, _, (room, connid), job in due:
            outcome = "elapsed" if at >= job["deadline"] else "lost"
            was_late = self.now - at > 1 or (late and at <= self.now)
            self._end(room, connid, "finished", outcome=outcome, late=was_late)

    def _code(self, answer: dict[str, Any]) -> str:
        assert not answer["ok"]
        return answer["error"]["code"]


def config_with(**given: Any) -> Config:
    return Config(**{**DEFAULTS, "rate_limit": 0, **given})


def without(job: dict[str, Any], field: str) -> dict[str, Any]:
    return {key: value for key, value in job.items() if key != field}


def by_run(jobs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {job["run"]: job for job in jobs}


class ModelOnRedis(Model):
    """The same with the log in Redis."""

    def log(self) -> dict[str, Any]:
        # Between two rules its loop stands still, and a busy machine may stand still longer.
        return {**redis.settings(), "redis_timeout": 30, "redis_deaf": 30}

    def begin_time(self, before: float) -> float:
        return max(self.clock(), before)


TestModel = pytest.mark.slow(Model.TestCase)
EXAMPLES = 400 if SOAK else 20
TestModel.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)
TestModelOnRedis = pytest.mark.redis(pytest.mark.slow(ModelOnRedis.TestCase))
TestModelOnRedis.settings = TestModel.settings
