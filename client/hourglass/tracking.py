"""`for row in hourglass.track(rows, "import", time="30m")`: a loop that shows itself."""

from collections.abc import Generator, Iterable, Sized
from typing import Any, TypeVar

from hourglass.jobs import Job, job

Item = TypeVar("Item")


def track(
    items: Iterable[Item], name: str | None = None, *, total: int | None = None, **more: Any
) -> Generator[Item, None, None]:
    """The items, one after the other, while a job shows how many of them are done.

    `total` is how many there are, where that is known and `items` has no length; the rest is as
    `hourglass.job` has it. Left before the last item, the job has failed.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    return tracked(items, job(name, **more), total)


class Left(Exception):
    """The loop was left before its last item."""


def tracked(items: Iterable[Item], work: Job, total: int | None) -> Generator[Item, None, None]:
    run = work.begin_loop(total)
    door = run.door
    count = 0
    try:
        for item in items:
            yield item
            run.count = count = count + 1
            if door.error is not None:
                door.check()
    except GeneratorExit:
        of = f" of {total}" if total is not None else ""
        work.leave_loop(Left(f"after {count}{of}"))
        raise
    except BaseException as error:
        work.end_loop(error)
        raise
    work.end_loop(None)
