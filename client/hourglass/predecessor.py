"""The run whose place a new one takes: it may need a while to stop."""

from hourglass.settings import Json, clock


class Predecessor:
    """What runs under a name before a job that is to replace it, until its work has stopped.

    It is known from the answer to `join`, and from the events after that.
    """

    def __init__(self, grace: float) -> None:
        """It is given `grace` seconds, and is no longer waited for after them."""
        self._grace = grace
        self._run: str | None = None
        self._until: float | None = None

    @property
    def stopping(self) -> bool:
        """Whether it has been killed, and may still be at work."""
        return self._run is not None and self._until is not None and clock() < self._until

    def joined(self, answer: Json, key: str) -> None:
        """Learn of the job of an answer, but for the one that was started with our `key`."""
        job = answer.get("job")
        if job is None or job.get("key") == key:
            return
        if job["state"] == "running":
            self._run = job["run"]
        elif job["state"] == "killed" and job["stopped_at"] is None:
            self._run = job["run"]
            self._until = clock() + self._grace - (answer["now"] - job["ended_at"])

    def heard(self, name: str, event: Json, key: str) -> None:
        """Learn of an event, as `joined` of a job."""
        if name == "started":
            if event["job"].get("key") != key:
                self._run, self._until = event["job"]["run"], None
        elif event.get("run") == self._run and name == "killed":
            self._until = clock() + self._grace
        elif event.get("run") == self._run and name in ("stopped", "finished"):
            self._run = None

    def replaced(self) -> None:
        """Ours has started in its place: it is killed, whether we have heard so or not."""
        if self._until is None:
            self._until = clock() + self._grace
