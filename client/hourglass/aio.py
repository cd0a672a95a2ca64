"""What asyncio has from Python 3.11 on, for programs that run on 3.10."""

import asyncio
import sys

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:

    class timeout:
        """Cancel what is in the block after so many seconds, and raise `TimeoutError`."""

        def __init__(self, delay: float | None) -> None:
            self._delay = delay
            self._over = False

        async def __aenter__(self) -> "timeout":
            self._task = asyncio.current_task()
            self._timer = None
            if self._delay is not None:
                self._timer = asyncio.get_running_loop().call_later(self._delay, self._cancel)
            return self

        async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
            if self._timer is not None:
                self._timer.cancel()
            if self._over and kind is asyncio.CancelledError:
                raise TimeoutError

        def _cancel(self) -> None:
            self._over = True
            if self._task is not None:
                self._task.cancel()


__all__ = ["timeout"]
