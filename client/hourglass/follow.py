"""Keeps a board right over lost connections."""

import asyncio
import functools
from collections.abc import Callable

from hourglass.board import Board
from hourglass.session import Line, OnEvent, connected, over_lines
from hourglass.settings import Json, Settings


async def keep_up(
    settings: Settings, board: Board, heard: OnEvent, changed: Callable[[str], None]
) -> None:
    """Hear a room for ever: each event is applied to the board and given to `heard`, once.

    `changed` is told what is wrong with the connection, and "" when it is live. Raises `Refused`
    when we are not let in.
    """
    behind = asyncio.Event()

    def take(name: str, event: Json) -> None:
        if name == "available":
            changed("" if event["available"] else "the server has lost its store")
        if board.apply(name, event):
            heard(name, event)
        elif board.behind:
            behind.set()

    async def listen(line: Line) -> None:
        while True:
            behind.clear()
            joined = await line.call("join", room=settings.room, since=board.position)
            # No snapshot comes where nothing was missed, and another server has another clock.
            board.learn(joined["now"])
            changed("")
            await line.until(behind)

    await over_lines(functools.partial(connected, settings, take), listen, changed)
