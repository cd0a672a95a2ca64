"""Futures of asyncio that others may have stopped waiting for."""

from asyncio import Future
from typing import Any


def refuse(future: Future[Any], error: Exception) -> None:
    """Let a future fail, unless it is done."""
    if not future.done():
        future.set_exception(error)
        # Seen: whoever asked may have been cancelled, and asyncio would call that an error.
        future.exception()
