"""Signals: whatever is wished once, the command is told once."""

import asyncio
import os
import signal
from asyncio import Future, TimerHandle
from collections.abc import Callable

from hourglass.settings import clock

ENDING = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)
PASSED = (
    *ENDING,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGWINCH,
    signal.SIGTSTP,
    signal.SIGCONT,
)
"""What is passed on to the command."""
ALONE, GROUP, EVERYONE = range(3)
"""Whom a signal was sent to: the process that the user knows, its process group, all there is."""
SAME_WISH = 0.3
"""Seconds in which a signal to the worker is the one that its guard was sent, too."""


class Signals:
    """What the guard was sent, in the worker: passed on to the command, and what it asks of us."""

    def __init__(self, guard: int, pass_on: Callable[[int, int], bool]) -> None:
        """From `guard` comes what the guard was sent; its end, which is that of the guard, is like
        SIGTERM. `pass_on` is given a signal and whom it was sent to; whether the command is there.
        """
        self._guard = guard
        self._pass_on = pass_on
        self._loop = asyncio.get_running_loop()
        self._own: dict[int, TimerHandle] = {}
        self._heard_at: dict[int, float] = {}
        self.first: Future[int] = self._loop.create_future()
        """The first signal that asks for an end."""
        self.terminate: Future[int] = self._loop.create_future()
        """SIGTERM: a supervisor, which will not wait for ever."""
        self.insisted: Future[int] = self._loop.create_future()
        """Another one, or one after the command's end, or nobody guards us any more."""
        for signum in ENDING:
            # What was ignored before, as SIGHUP is under nohup, stays so for the command too.
            if signal.getsignal(signum) is not signal.SIG_IGN:
                self._loop.add_signal_handler(signum, self._sent_to_us, signum)
        self._loop.add_reader(guard, self._read)

    def _read(self) -> None:
        told = os.read(self._guard, 2)
        if told:
            signum, scope = told
            self._heard_at[signum] = clock()
            if own := self._own.pop(signum, None):
                own.cancel()
                scope = EVERYONE
            self._heard(signum, scope)
        else:
            self._loop.remove_reader(self._guard)
            self._heard(signal.SIGTERM, ALONE)
            settle(self.insisted, signal.SIGTERM)

    def _sent_to_us(self, signum: int) -> None:
        """Nobody knows of us: it was sent to everyone, and the guard tells us of it, or is about
        to; or somebody has found us."""
        if clock() - self._heard_at.get(signum, 0.0) > SAME_WISH and signum not in self._own:
            self._own[signum] = self._loop.call_later(SAME_WISH, self._found, signum)

    def _found(self, signum: int) -> None:
        del self._own[signum]
        self._heard(signum, ALONE)

    def _heard(self, signum: int, scope: int) -> None:
        running = self._pass_on(signum, scope)
        if signum not in ENDING:
            return
        settle(self.first, signum)
        if not running or (signum == signal.SIGTERM and self.terminate.done()):
            settle(self.insisted, signum)
        if signum == signal.SIGTERM:
            settle(self.terminate, signum)


def settle(future: Future[int], value: int) -> None:
    """The first value stays."""
    if not future.done():
        future.set_result(value)
