"""The state of a room, as its events tell it."""

from hourglass.settings import Json, clock


class Board:
    """The state of a room, as its events tell it: the rules of the protocol's "Staying right"."""

    MOST_ENDED = 50

    def __init__(self) -> None:
        self.running: dict[str, Json] = {}
        """By run, the oldest first."""
        self.ended: dict[str, Json] = {}
        self.watching: Json = {"watching": 0, "names": []}
        self.behind = False
        self._epoch: str | None = None
        self._seq = 0
        self._ahead = 0.0

    @property
    def known(self) -> bool:
        """Whether a snapshot has come."""
        return self._epoch is not None

    @property
    def position(self) -> Json | None:
        """What to send as `since`."""
        return {"epoch": self._epoch, "seq": self._seq} if self.known else None

    def now(self) -> float:
        """The server's time."""
        return clock() + self._ahead

    def learn(self, now: float) -> None:
        """It is `now` by the server's clock, which we count on by ours: nobody can set that."""
        self._ahead = now - clock()

    def apply(self, name: str, event: Json) -> bool:
        """Take an event into account; false when it is no news, or others are missing before it:
        `behind` is set then."""
        if name == "snapshot":
            self._begin(event)
        elif name == "presence":
            self.watching = event
        elif name == "progress":
            if event["run"] in self.running:
                told = {field: event[field] for field in ("done", "note", "at")}
                self.running[event["run"]]["progress"] = told
        elif "seq" in event:
            self.behind = event["seq"] > self._seq + 1
            if event["seq"] != self._seq + 1:
                return False
            self._seq = event["seq"]
            self._advance(name, event)
        return True

    def _begin(self, snapshot: Json) -> None:
        self.learn(snapshot["now"])
        self.behind = False
        if snapshot["epoch"] == self._epoch and snapshot["seq"] < self._seq:
            return
        self._epoch, self._seq = snapshot["epoch"], snapshot["seq"]
        running = sorted(snapshot["running"], key=lambda job: float(job["started_at"]))
        self.running = {job["run"]: job for job in running}
        self.ended = {job["run"]: job for job in snapshot["ended"]}

    def _advance(self, name: str, event: Json) -> None:
        if name == "started":
            self.running[event["job"]["run"]] = event["job"]
        elif name == "extended":
            if event["run"] in self.running:
                moved = {field: event[field] for field in ("time", "deadline")}
                self.running[event["run"]].update(moved)
        elif name == "stopped":
            if event["run"] in self.ended:
                stopped = {"exit": event["exit"], "stopped_at": event["at"]}
                self.ended[event["run"]].update(stopped)
        elif name == "amended":
            if event["run"] in self.ended:
                amended = {"outcome": event["outcome"], "result": event["result"]}
                self.ended[event["run"]].update(amended, amended_at=event["at"])
        elif event["run"] in self.running:
            job = self.running.pop(event["run"])
            end = {"state": name, "ended_at": event["at"], "started_by": job["by"]}
            self.ended[event["run"]] = {**job, **event, **end}
            if len(self.ended) > self.MOST_ENDED:
                del self.ended[next(iter(self.ended))]
