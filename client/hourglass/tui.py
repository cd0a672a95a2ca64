"""The live board in a terminal, drawn with rich."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from hourglass.board import Board
from hourglass.errors import Exit
from hourglass.follow import keep_up
from hourglass.formatting import duration, ending, facts, instant, percent, printable, time_left
from hourglass.settings import Json, Settings

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

REDRAW_EVERY = 0.2


async def show_board(settings: Settings) -> int:
    """The live board, until somebody presses q."""
    try:
        from rich.console import Console
        from rich.live import Live
    except ModuleNotFoundError:
        print(
            "hourglass: the board needs rich: `pip install rich`,"
            " or `uv run --with rich hourglass.pyz watch`",
            file=sys.stderr,
        )
        return Exit.FAILED
    board, problem = Board(), "connecting"

    def changed(now: str) -> None:
        nonlocal problem
        problem = now

    asyncio.get_running_loop().add_signal_handler(signal.SIGTSTP, lambda: None)
    console = Console()
    keeping = asyncio.create_task(keep_up(settings, board, lambda name, event: None, changed))
    with keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while not keeping.done() and "q" not in pressed:
            live.update(picture(board, settings.room, problem, console.size), refresh=True)
            await asyncio.wait({keeping}, timeout=REDRAW_EVERY)
    if keeping.done():
        keeping.result()
    keeping.cancel()
    return Exit.DONE


@contextlib.contextmanager
def keys() -> Iterator[list[str]]:
    """The keys that are pressed meanwhile, which the terminal does not show."""
    pressed: list[str] = []
    if not sys.stdin.isatty():
        yield pressed
        return
    import termios
    import tty

    before = termios.tcgetattr(0)
    tty.setcbreak(0)
    loop = asyncio.get_running_loop()
    loop.add_reader(0, lambda: pressed.extend(os.read(0, 64).decode(errors="replace")))
    try:
        yield pressed
    finally:
        loop.remove_reader(0)
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def picture(board: Board, room: str, problem: str, size: tuple[int, int]) -> "RenderableType":
    """The board as large as the terminal: what is running, then what has ended."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    width, height = size
    running = list(reversed(board.running.values()))
    ended = list(reversed(board.ended.values()))
    rows = max(0, height - 6)
    for_ended = min(len(ended), max(rows // 3, rows - max(1, len(running))))
    shown = running[: rows - for_ended]
    hidden = f", {len(running) - len(shown)} older ones hidden" if len(running) > len(shown) else ""
    nothing = "Nothing is running." if board.known else "Waiting for the server."
    parts: list[RenderableType] = [header(board, room, problem, width), Text()]
    parts += [Text.assemble((f"Running {len(running)}", "bold"), (hidden, "dim"))]
    parts += [running_table(shown, board.now(), width) if shown else Text(nothing, style="dim")]
    if for_ended:
        parts += [Text(), Text("Ended", style="bold"), ended_table(ended[:for_ended], width)]
    return Padding(Group(*parts), (0, 1))


def header(board: Board, room: str, problem: str, width: int) -> "RenderableType":
    from rich.text import Text

    names = ", ".join(sorted(set(map(printable, board.watching["names"]))))
    watching = f"{board.watching['watching']} watching: {names}   " if names else ""
    state = Text(f"● {printable(problem)}", "red") if problem else Text("● live", "green")
    head = Text.assemble(("Hourglass", "bold"), f" {room}")
    table = columns()
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, ratio=1)
    if width < 60:
        table.add_row(head, state)
    else:
        table.add_column(no_wrap=True, justify="right", max_width=width // 2)
        table.add_row(head, state, Text(f"{watching}q leaves", "dim"))
    return table


def running_table(jobs: Iterable[Json], now: float, width: int) -> "RenderableType":
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    table = columns()
    table.add_column(no_wrap=True, width=names_width(width))
    table.add_column(width=max(8, width // 5))
    table.add_column(no_wrap=True, justify="right", min_width=6)
    table.add_column(no_wrap=True, ratio=1)
    for job in jobs:
        left = max(0.0, job["deadline"] - now)
        colour = urgency(left, job["time"])
        bar = ProgressBar(job["time"], left, complete_style=colour, finished_style=colour)
        what = spaced((percent(job), "cyan"), (job["by"], ""), (job["note"] or "", "dim"))
        table.add_row(Text(printable(job["connid"])), bar, Text(time_left(left), colour), what)
    return table


def ended_table(jobs: Iterable[Json], width: int) -> "RenderableType":
    from rich.text import Text

    table = columns()
    table.add_column(no_wrap=True, width=names_width(width))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, ratio=1)
    for job in jobs:
        colour = "red" if job["state"] == "killed" else END_COLOURS.get(job["outcome"], "")
        ran = f"{duration(job['ended_at'] - job['started_at'])} of {duration(job['time'])}"
        what = spaced((ending(job), colour), (f"after {ran}", ""), (facts(job), "dim"))
        at = Text(instant(job["ended_at"])[-8:], "dim")
        table.add_row(Text(printable(job["connid"])), at, what)
    return table


def columns() -> "Table":
    """A table as wide as the terminal, without lines."""
    from rich.table import Table

    return Table.grid(expand=True, padding=(0, 2, 0, 0))


def names_width(width: int) -> int:
    return max(10, min(32, width // 4))


def spaced(*parts: tuple[str, str]) -> "RenderableType":
    """Texts with their styles, side by side; empty ones are left out."""
    from rich.text import Text

    said = [(printable(text), style) for text, style in parts if text]
    return Text("  ").join(Text(text, style) for text, style in said)


END_COLOURS = {"done": "green", "failed": "red", "lost": "magenta", "elapsed": "yellow"}


def urgency(left: float, limit: float) -> str:
    """The colour of a countdown."""
    if left < 0.1 * limit:
        return "red"
    return "yellow" if left < 0.3 * limit else "green"
