"""RQ: `rq worker --worker-class hourglass.queues.rq.ShownWorker`.

Each of its jobs is one of ours while it is executed. One that is killed is `stopped` in RQ, and not
retried.
"""

from typing import Any

from rq.worker import SimpleWorker, Worker  # type: ignore[import-not-found, unused-ignore]

from hourglass import jobs
from hourglass.program import Program


class Shown:
    """What makes a worker of RQ's show its jobs."""

    job_time: str | float = "1d"
    """How long a job may run that has no timeout in RQ."""
    job_settings: dict[str, Any] = {}  # noqa: RUF012 # As RQ's workers have theirs.
    """What else `hourglass.job` takes, such as `room`."""
    _ours: jobs.Job | None = None

    def perform_job(self, job: Any, *args: Any, **more: Any) -> Any:
        limit = job.timeout or self.queue_class.DEFAULT_TIMEOUT  # type: ignore[attr-defined]
        settings = {"note": f"rq {job.id}", **self.job_settings}
        time = limit if limit > 0 else self.job_time
        self._ours = ours = jobs.job(job.func_name, time=time, **settings)
        perform = job.perform

        def shown() -> Any:
            with ours:
                return perform()

        job.perform = shown
        try:
            return super().perform_job(job, *args, **more)  # type: ignore[misc]
        finally:
            Program.settle()  # The process of a job ends by `os._exit`.

    def handle_job_failure(self, job: Any, *args: Any, **more: Any) -> Any:
        if self._ours is not None and self._ours.killed:
            self._stopped_job_id = job.id  # As when RQ itself is asked to stop it.
        return super().handle_job_failure(job, *args, **more)  # type: ignore[misc]


class ShownWorker(Shown, Worker):  # type: ignore[misc, unused-ignore]
    """A worker that executes each job in a process of its own."""


class ShownSimpleWorker(Shown, SimpleWorker):  # type: ignore[misc, unused-ignore]
    """A worker that executes jobs in its own process."""
