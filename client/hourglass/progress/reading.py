"""Which reader is believed, and what is shown of what it reads."""

import copy
import re
from collections.abc import Iterable, Sequence

from hourglass.progress.reader import LONGEST_NOTE, Found, Progress, Reader, clean, fraction, groups
from hourglass.progress.readers import NAMES, READERS

MAYBE = re.compile(r"[%/:(]")
"""What a line has to have, for most readers to be asked: floods of other lines cost little."""
TAKEN_OVER_AFTER = 3
"""Lines of another tool after which the one that was believed is over."""
DIP = 0.2
"""By less than this a bar does not fall: it waits."""
MOST_BARS = 32
STILL_FOR = 3
"""Rounds of an inner bar after which an outer one that has not moved is no part of it."""

TOLD = (
    re.compile(r"^progress:\s*(?P<percent>\d+(?:\.\d+)?)\s*%(?P<note>.*)$"),
    re.compile(r"^progress:\s*(?P<done>\d+)\s*/\s*(?P<total>\d+)(?P<note>(?:\D.*)?)$"),
    re.compile(r"^[Pp]rogress:\s*(?P<percent>\d+(?:\.\d+)?)\s*%$"),
    re.compile(r"^[Pp]rogress:\s*(?P<done>\d+)\s*/\s*(?P<total>\d+)$"),
)
"""What any program may print to be understood: `progress: 40% tables`, `progress: 12/30 tables`."""
TELLING = re.compile(r"[Pp]rogress:")
LEVELS = re.compile(r"TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|[\d:.,TZ+-]+", re.I)
"""Words of a logger that may stand before: a level, or a time."""


class Reading:
    """Follows the lines of a command, one after the other.

    The reader that has matched is believed from then on. Another one takes over when the tool is
    done, or when its own lines alone have come for a while. What would make the bar fall is another
    part of the whole, of which nobody knows the size: from then on it is shown in words.
    """

    def __init__(self, readers: Sequence[Reader], *, telling: bool = True) -> None:
        """`telling` is whether lines that begin with `progress:` are read, before all others."""
        self.progress: Progress | None = None
        """What is shown now."""
        self._readers = readers
        self._bare = any(reader.command for reader in readers)
        self._telling = telling
        self._told = False
        self._believed: Reader | None = None
        self._rank = 99
        self._done = 0.0
        self._other: tuple[Reader | None, int] = None, 0
        self._remembered: dict[str, dict[str, str]] = {}
        self._bars: dict[str | None, float] = {}
        self._still: set[str | None] = set()
        self._rounds = 0
        self._most = 0.0
        self._phased = False

    def after(self, line: str) -> "Reading":
        """What it would be after one more line, which may still change."""
        other = copy.copy(self)
        other._remembered = dict(self._remembered)
        other._bars = dict(self._bars)
        other._still = set(self._still)
        other.read(line)
        return other

    def read(self, line: str) -> None:
        line = line.strip()
        if not MAYBE.search(line) and not (self._bare and line.isdecimal()):
            return
        if self._telling and (told := told_by(line)):
            self._told = True
            self.progress = told
        if self._told:
            return
        self._remember(line)
        found = self._find(line)
        if found is not None:
            self._take(found)

    def _remember(self, line: str) -> None:
        for reader in self._readers:
            if (named := reader.remember(line)) is not None:
                self._remembered[reader.name] = named

    def _find(self, line: str) -> Found | None:
        """What the line says to the reader that is to be believed."""
        believed = self._believed
        if believed is not None and (found := self._ask(believed, line)):
            self._other = None, 0
            return found
        for reader in self._readers:
            if reader is not believed and (found := self._ask(reader, line)):
                other, times = self._other
                self._other = reader, times + 1 if reader is other else 1
                if believed is None or self._done >= 1 or self._other[1] >= TAKEN_OVER_AFTER:
                    self._believe(reader)
                    return found
                return None
        return None

    def _ask(self, reader: Reader, line: str) -> Found | None:
        remembered = self._remembered.get(reader.name)
        if reader.before is not None and remembered is None:
            return None
        worst = self._rank if reader is self._believed and reader.ranked else 99
        return reader.read(line, remembered or {}, worst)

    def _believe(self, reader: Reader) -> None:
        self._believed = reader
        self._other = None, 0
        self._rank = 99
        self._bars.clear()
        self._still.clear()
        self._rounds = 0

    def _take(self, found: Found) -> None:
        reader = self._believed
        assert reader is not None
        if reader.ranked and found.rank < self._rank:
            self._rank = found.rank
        if reader.nested:
            found = self._outermost(found)
        self._done = found.done
        falls = found.done < self._most - DIP
        waits = reader.grows and self._most < 1
        if reader.phases or (falls and not waits):
            self._phased = True
        self._most = max(self._most, found.done)
        if self._phased:
            words = f"{found.label or reader.name}: {found.done:.0%}"
            self.progress = Progress(None, words[:LONGEST_NOTE])
        else:
            self.progress = Progress(self._most, found.note or found.label)

    def _outermost(self, found: Found) -> Found:
        """The first of several bars that moves; or it, still, with the words of the inner one."""
        label, done = found.label, found.done
        before = self._bars.get(label)
        if before is None:
            if len(self._bars) >= MOST_BARS:
                return found
            self._still.add(label)
        elif done != before:
            self._still.discard(label)
        if before is not None and done < before:
            del self._bars[label]  # Now the innermost.
            self._begun_again()
        self._bars[label] = done
        outer = next(bar for bar, at in self._bars.items() if bar == label or at < 1)
        if outer == label:
            return found
        words = " ".join(filter(None, [label, found.note]))
        return Found(self._bars[outer], outer, words or None)

    def _begun_again(self) -> None:
        """A bar has begun again; those around it that have still not moved never will."""
        self._rounds += 1
        if self._rounds >= STILL_FOR:
            for bar in self._still & self._bars.keys():
                del self._bars[bar]


class Matching:
    """Follows the lines of a command by one pattern, and shows what that says."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.progress: Progress | None = None
        self._pattern = pattern

    def after(self, line: str) -> "Matching":
        """What it would be after one more line, which may still change."""
        other = copy.copy(self)
        other.read(line)
        return other

    def read(self, line: str) -> None:
        self.progress = by_patterns((self._pattern,), line.strip()) or self.progress


def reading_of(choice: str | re.Pattern[str], command: str) -> Reading | Matching:
    """How a command is read: `none`, `auto`, the name of a reader, or a pattern."""
    if isinstance(choice, re.Pattern):
        return Matching(choice)
    if choice == "none":
        return Reading((), telling=False)
    if choice in NAMES:
        return Reading((NAMES[choice],))
    fitting = [reader for reader in READERS if not reader.command or reader.command.search(command)]
    return Reading(fitting)


def told_by(line: str) -> Progress | None:
    """The progress that a line tells which was printed for us, whatever its logger puts before."""
    found = TELLING.search(line)
    if found is None or not is_prefix(line[: found.start()]):
        return None
    return by_patterns(TOLD, line[found.start() :])


def is_prefix(text: str) -> bool:
    """Whether a text is what loggers put before a message, and no part of a sentence."""
    text = text.rstrip()
    if not text or text[-1] in ":]|>)" or text.endswith(" -"):
        return True
    return LEVELS.fullmatch(text.split()[-1]) is not None


def by_patterns(patterns: Iterable[re.Pattern[str]], line: str) -> Progress | None:
    """The progress that the first pattern reads which finds one."""
    for pattern in patterns:
        if (found := pattern.search(line)) and (progress := from_match(found)):
            return progress
    return None


def from_match(found: re.Match[str]) -> Progress | None:
    """The progress that the named groups `percent`, or `done` and `total`, and `note` tell; without
    names the first group is percent, or the first two are done and total."""
    named = groups(found)
    if not found.re.groupindex:
        names = ("percent",) if found.re.groups == 1 else ("done", "total")
        named = {n: text for n, text in zip(names, found.groups(), strict=False) if text}
    done = fraction(named)
    return None if done is None else Progress(done, clean(named.get("note")))
