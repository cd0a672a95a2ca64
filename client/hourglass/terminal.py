"""A pseudo-terminal for the command, and what stands between it and the terminal of the user.

Three processes have it. The guard, which is in the foreground, reads what is typed and passes it
on (`Keyboard`). The worker passes on what is printed. The command has the other side as its
controlling terminal: there is a `/dev/tty` for passwords, and Ctrl-C means what it does there.
"""

import contextlib
import errno
import os
import re
import select
import signal
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

MOST_TYPED = 65_536
"""Bytes typed ahead that the command has not read."""
LOOK_AGAIN = 0.5
"""Seconds after which a run in the background looks whether it is in the foreground again."""
SIZE = 24, 80
"""Rows and columns where we have no terminal to ask."""
LINE_DISCIPLINE, CHARACTERS = 3, 6
"""Places in what `termios.tcgetattr` returns."""

QUERY = re.compile(
    r"\x1b\[(?:[>=]?0?c|[56]n|18t|\?\d{1,4}\$p)|\x1b\](?:10|11);\?(?:\x07|\x1b\\)",
)
"""What programs ask a terminal: its kind, whether it is there and where its cursor is, its size,
the state of a mode, its colours."""
LONGEST_QUERY = 16


def wanted(choice: bool | None) -> bool:
    """Whether the command gets a pseudo-terminal: as chosen, or if it had a terminal without us."""
    if choice is not None:
        return choice
    return all(map(os.isatty, (0, 1, 2))) and in_foreground(0)


def in_foreground(fd: int) -> bool:
    """Whether we are those whom the user sees at work, and may read what is typed."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False


class Terminal:
    """The command's pseudo-terminal, and our own if what is typed is for the command."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        self._own = os.dup(0) if os.isatty(0) else None
        self._modes = None if self._own is None else termios.tcgetattr(self._own)
        if self._modes is not None:
            termios.tcsetattr(self.slave, termios.TCSANOW, self._modes)
        self._reading, self._writing = os.pipe()
        self.fit()

    def fit(self) -> None:
        """Give it the size of our own, which tells the command."""
        rows, columns = size_of((0, 1, 2) if self._own is None else (self._own,))
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetwinsize(self.master, (rows, columns))

    def keyboard(self) -> "Keyboard | None":
        """For the guard: what passes on what is typed, if it is for the command."""
        signal.signal(signal.SIGWINCH, lambda *_: self.fit())
        os.close(self._writing)
        os.close(self.slave)
        if self._own is None or self._modes is None:
            return None
        return Keyboard(self._own, self._modes, self, self._reading)

    def close(self) -> None:
        """For the guard: the worker is done."""
        signal.signal(signal.SIGWINCH, signal.SIG_DFL)
        for fd in (self.master, self._reading, *([] if self._own is None else [self._own])):
            os.close(fd)

    # For the worker:

    def started(self) -> None:
        """The command has it now; what is typed is for it."""
        os.close(self.slave)
        with contextlib.suppress(BrokenPipeError):
            os.write(self._writing, b"+")

    def ended(self) -> None:
        """The command is over: our own terminal is as it was, though our guard be killed."""
        os.close(self._writing)
        if self._own is not None and self._modes is not None:
            restore(self._own, self._modes)

    def answering(self, feed: Callable[[str], None]) -> Callable[[str], None]:
        """What also answers the command's queries, where no terminal of ours does."""
        if self._own is not None:
            return feed
        answers = Answers(self.master)

        def both(text: str) -> None:
            answers.feed(text)
            feed(text)

        return both

    def options(self, argv: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
        """How to start the command on it: the arguments of `Popen`. Raises `OSError`.

        The first terminal that the leader of a session opens is its controlling one, so a shell
        opens it before it becomes the command. It is to say nothing itself, so the command is
        looked for here.
        """
        look_for(argv[0], environ)
        return {
            "args": ["sh", "-c", ': <"$0"; exec "$@"', os.ttyname(self.slave), *argv],
            "stdin": None if self._own is None else self.slave,
            "stdout": self.slave,
            "stderr": self.slave,
            "start_new_session": True,
            "env": {"TERM": "xterm-256color", **environ},
        }


class Keyboard(threading.Thread):
    """Passes on what is typed, from when the command starts until it has ended.

    Our own terminal is raw meanwhile, so that each key reaches the command's, which knows what
    Ctrl-C is. Ctrl-Z alone is ours, unless a shell in there does it: the command's processes are no
    job of the user's shell, but we are.
    """

    def __init__(self, own: int, modes: list[Any], terminal: Terminal, heard: int) -> None:
        """`heard` is a byte when the command starts, and at its end when the worker is done."""
        super().__init__(daemon=True)
        self._own = own
        self._modes = modes
        self._terminal = terminal
        self._heard = heard
        self._typed = b""
        self._raw = False

    def run(self) -> None:
        try:
            while os.read(self._heard, 1):
                self._pass_on()
        except OSError:
            pass  # Our terminal is gone. The kernel tells everyone.
        finally:
            self.restore()

    def restore(self) -> None:
        """Leave our own terminal as we found it."""
        if self._raw:
            restore(self._own, self._modes)
            self._raw = False

    def _pass_on(self) -> None:
        master = self._terminal.master
        while True:
            self._make_raw()
            room = self._raw and len(self._typed) < MOST_TYPED
            reading = [self._heard, self._own] if room else [self._heard]
            writing = [master] if self._typed else []
            ready, free, _ = select.select(reading, writing, [], None if self._raw else LOOK_AGAIN)
            if self._heard in ready:
                return
            if free:
                self._typed = self._typed[os.write(master, self._typed[:1024]) :]
            if self._own in ready:
                data = os.read(self._own, 1024)
                if not data:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                self._take(data)

    def _make_raw(self) -> None:
        if not self._raw and in_foreground(self._own):
            tty.setraw(self._own, termios.TCSANOW)
            self._raw = True
            self._terminal.fit()

    def _take(self, data: bytes) -> None:
        suspend = self._suspending()
        before, found, after = data.partition(suspend) if suspend else (data, b"", b"")
        self._typed += before
        if found:
            self._suspend()
            self._typed += after

    def _suspending(self) -> bytes | None:
        """The key that suspends, where the command leaves that to its terminal."""
        modes = termios.tcgetattr(self._terminal.master)
        if not modes[LINE_DISCIPLINE] & termios.ISIG or self._group() is None:
            return None
        key: bytes = modes[CHARACTERS][termios.VSUSP]
        return None if key in (b"\0", b"\xff") else key

    def _group(self) -> int | None:
        """The command's process group, if that is in its foreground: no shell has set another."""
        with contextlib.suppress(OSError):
            group = os.tcgetpgrp(self._terminal.master)
            if os.getsid(group) == group:
                return group
        return None

    def _suspend(self) -> None:
        """Stop the command and ourselves, as a job of the user's shell, and go on with it."""
        group = self._group()
        self.restore()
        with contextlib.suppress(OSError):
            if group is not None:
                # The kernel stops no group without a parent in its session by SIGTSTP.
                os.killpg(group, signal.SIGSTOP)
        # To this thread, so that it goes no further: it is all of the process that stops.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        with contextlib.suppress(OSError):
            if group is not None:
                os.killpg(group, signal.SIGCONT)


@contextlib.contextmanager
def typed_for(terminal: Terminal | None) -> Iterator[None]:
    """For the guard: pass on what is typed, until the worker is done."""
    if terminal is None:
        yield
        return
    keyboard = terminal.keyboard()
    if keyboard is not None:
        keyboard.start()
    yield
    if keyboard is not None:
        keyboard.join()
    terminal.close()


class Answers:
    """Answers what the command asks its terminal, as a plain one would."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._rest = ""

    def feed(self, text: str) -> None:
        text = self._rest + text
        end = 0
        for found in QUERY.finditer(text):
            end = found.end()
            with contextlib.suppress(OSError):
                os.write(self._master, self._answer(found[0]).encode())
        start = text.rfind("\x1b", max(end, len(text) - LONGEST_QUERY))
        self._rest = text[start:] if start >= 0 else ""

    def _answer(self, query: str) -> str:
        rows, columns = termios.tcgetwinsize(self._master)
        match query[2:].rstrip("\x07\\\x1b"):
            case "c" | "0c":
                return "\x1b[?1;2c"
            case ">c" | ">0c":
                return "\x1b[>0;0;0c"
            case "5n":
                return "\x1b[0n"
            case "6n":
                return "\x1b[1;1R"
            case "18t":
                return f"\x1b[8;{rows};{columns}t"
            case "10;?":
                return "\x1b]10;rgb:ffff/ffff/ffff\x1b\\"
            case "11;?":
                return "\x1b]11;rgb:0000/0000/0000\x1b\\"
            case mode if mode.endswith("$p"):
                return f"\x1b[{mode[:-2]};0$y"
        return ""


def restore(fd: int, modes: list[Any]) -> None:
    """Set the modes of a terminal, also from the background."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    with contextlib.suppress(termios.error):
        termios.tcsetattr(fd, termios.TCSANOW, modes)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def size_of(fds: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of the first terminal among these that knows them."""
    for fd in fds:
        with contextlib.suppress(OSError, termios.error):
            rows, columns = termios.tcgetwinsize(fd)
            if rows and columns:
                return rows, columns
    return SIZE


def look_for(program: str, environ: Mapping[str, str]) -> None:
    """Raises the `OSError` that running a program would."""
    folders = [""] if "/" in program else os.get_exec_path(environ)
    paths = [os.path.join(folder, program) for folder in folders]
    there = [path for path in paths if os.path.exists(path)]
    if not there:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if not any(os.access(path, os.X_OK) and not os.path.isdir(path) for path in there):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
