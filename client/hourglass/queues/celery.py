"""Celery: `app = Celery(task_cls="hourglass.queues.celery:JobTask")`, or `@app.task(base=JobTask)`.

Each task is a job for as long as it is executed. One that is killed is `REVOKED`, and never begun
again: neither with `autoretry_for` nor with `acks_late`.
"""

from typing import Any

from celery import Task  # type: ignore[import-untyped, unused-ignore]
from celery.exceptions import Ignore  # type: ignore[import-untyped, unused-ignore]

from hourglass.delivery import Killed
from hourglass.jobs import job


class JobTask(Task):  # type: ignore[misc, unused-ignore]
    """A task that is shown while it is executed, and ends when somebody kills it."""

    job_time: str | float | None = None
    """How long it may run; unless given, as long as Celery lets it, or an hour."""
    job_settings: dict[str, Any] = {}  # noqa: RUF012 # As Celery has its options.
    """What else `hourglass.job` takes, such as `room`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # One that is called as a function, and not by a worker, is its caller's work.
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        limits = [*(self.request.timelimit or ()), self.time_limit, self.app.conf.task_time_limit]
        time = self.job_time or next(filter(None, limits), "1h")
        settings = {"note": f"celery {self.request.id}", **self.job_settings}
        try:
            with job(self.name, time=time, **settings):
                return super().__call__(*args, **kwargs)
        except Killed as killed:
            self.backend.mark_as_revoked(self.request.id, str(killed), request=self.request)
            raise Ignore from killed
