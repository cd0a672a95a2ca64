"""What a dashboard makes of the events that it hears, written from the protocol page alone."""

from typing import Any

FIELDS = ("connid", "run", "room", "time", "started_at", "deadline", "note", "lease")


class Dashboard:
    """One room as a client sees it: a snapshot, then each event whose seq is the next."""

    def __init__(self) -> None:
        self.epoch = ""
        self.seq = -1
        self.running: dict[str, dict[str, Any]] = {}
        self.ended: list[dict[str, Any]] = []
        self.hole = False

    @property
    def since(self) -> dict[str, Any] | None:
        return {"epoch": self.epoch, "seq": self.seq} if self.epoch else None

    def hear(self, name: str, body: dict[str, Any]) -> None:
        if name == "snapshot":
            self.epoch, self.seq = body["epoch"], body["seq"]
            self.running = {job["connid"]: job for job in body["running"]}
            self.ended = list(body["ended"])
            self.hole = False
        elif name == "progress":
            job = self.running.get(body["connid"])
            if job is not None and job["run"] == body["run"]:
                job["progress"] = {field: body[field] for field in ("done", "note", "at")}
        elif "seq" in body and self.epoch and not self.hole:
            if body["seq"] == self.seq + 1:
                self.seq += 1
                self._apply(name, body)
            elif body["seq"] > self.seq:
                self.hole = True

    def state(self) -> dict[str, Any]:
        """All that a dashboard shows, to compare with that of another."""
        return {"seq": self.seq, "running": self.running, "ended": self.ended}

    def _apply(self, name: str, body: dict[str, Any]) -> None:
        if name == "started":
            assert body["job"]["connid"] not in self.running
            self.running[body["job"]["connid"]] = body["job"]
        elif name == "extended":
            job = self.running[body["connid"]]
            assert job["run"] == body["run"]
            job.update(time=body["time"], deadline=body["deadline"])
        elif name == "stopped":
            for job in self.ended:
                if job["run"] == body["run"]:
                    job["exit"], job["stopped_at"] = body["exit"], body["at"]
        elif name == "amended":
            for job in self.ended:
                if job["run"] == body["run"]:
                    told = {field: body[field] for field in ("outcome", "result")}
                    job.update(told, amended_at=body["at"])
        else:
            job = self.running.pop(body["connid"])
            assert job["run"] == body["run"]
            self.ended = [*self.ended, ended(job, name, body)][-50:]


def ended(job: dict[str, Any], name: str, body: dict[str, Any]) -> dict[str, Any]:
    """The ended job that the event of its end makes of a running one."""
    killed = name == "killed"
    return {
        **{field: job[field] for field in (*FIELDS, "key") if field in job},
        "state": name,
        "seq": body["seq"],
        "ended_at": body["at"],
        "started_by": job["by"],
        "by": body["by"] if killed else job["by"],
        "progress": job["progress"],
        "reason": body["reason"] if killed else None,
        "via": body["via"] if killed else None,
        "outcome": None if killed else body["outcome"],
        "result": None if killed else body["result"],
        "late": body.get("late", False),
        "exit": None,
        "stopped_at": None,
    }


def replay(events: list[tuple[str, dict[str, Any]]]) -> Dashboard:
    """The dashboard after these events."""
    dashboard = Dashboard()
    for name, body in events:
        dashboard.hear(name, body)
    return dashboard


def replay_log(events: list[dict[str, Any]], epoch: str, seq: int = 0) -> Dashboard:
    """The dashboard after a whole log, as `status` since `seq`, where it begins, has it."""
    dashboard = Dashboard()
    dashboard.epoch, dashboard.seq = epoch, seq
    for event in events:
        dashboard.hear(event["event"], event)
    return dashboard
