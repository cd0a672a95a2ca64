"""What a command prints, as the lines that a terminal shows, one after the other."""

import re
from collections.abc import Iterator
from enum import Enum, auto

LONGEST_LINE = 1000
"""Characters after which a line goes on in the next one, as at the edge of a terminal."""
SHOWN_FOR_EACH = 16
"""Characters of lines that are taken back in part, shown for each character that is printed: so
that a spinner at the end of a long line does not make all of it a new line each time."""

PRINTED = re.compile(r"[^\x00-\x1f\x7f-\x9f]+")
PARAMETERS = re.compile(r"[ -?]*")
"""And intermediate bytes, in any order: a sequence may be cut between them."""
STRING_END = re.compile(r"[\x07\x18\x1a\x1b\r\n]")
LONGEST_PARAMETERS = 16
OTHER_ROW = frozenset("ABEFHdfu")
"""Final bytes of sequences after which what is printed stands in another row."""


class State(Enum):
    """Where in a sequence the last character was (ECMA-48)."""

    TEXT = auto()
    ESCAPE = auto()
    CONTROL = auto()
    STRING = auto()


class Screen:
    """Follows the row in which the cursor is, however the text is cut into pieces.

    A line is shown when it ends, and when what stands there is about to be erased or written over.
    After a return (and whatever else leads to the first column or to another row) it begins anew.
    """

    def __init__(self) -> None:
        self.line = ""
        """The line as it stands."""
        self._column = 0
        self._printed = False
        """Whether there is something in it that was not shown yet."""
        self._credit = 0
        self._state = State.TEXT
        self._parameters = ""

    def feed(self, text: str) -> Iterator[str]:
        """The lines that are over with this text."""
        at = 0
        while at < len(text):
            at, shown = self._step(text, at)
            if shown and not shown.isspace():
                yield shown

    def _step(self, text: str, at: int) -> tuple[int, str]:
        """Take some of a text, from here; where the rest begins, and a line that is over."""
        match self._state:
            case State.TEXT:
                return self._text(text, at)
            case State.ESCAPE:
                return self._escape(text, at)
            case State.CONTROL:
                return self._control(text, at)
            case State.STRING:
                return self._string(text, at)

    def _text(self, text: str, at: int) -> tuple[int, str]:
        if found := PRINTED.match(text, at, at + LONGEST_LINE - self._column):
            self._print(found[0])
            return found.end(), self._begin_anew() if self._column >= LONGEST_LINE else ""
        shown = ""
        match text[at]:
            case "\r" | "\n" | "\v" | "\f":
                shown = self._begin_anew()
            case "\b":
                shown = self._move_to(self._column - 1)
            case "\t":
                self._print(" ")
                shown = self._begin_anew() if self._column >= LONGEST_LINE else ""
            case "\x1b":
                self._state = State.ESCAPE
        return at + 1, shown

    def _escape(self, text: str, at: int) -> tuple[int, str]:
        char = text[at]
        self._state = State.TEXT
        if char == "[":
            self._state, self._parameters = State.CONTROL, ""
        elif char in "]PX^_":
            self._state = State.STRING
        elif " " <= char <= "/":
            self._state = State.ESCAPE
        elif char in "8DEMc":
            return at + 1, self._begin_anew()
        elif char < " ":
            return at, ""
        return at + 1, ""

    def _control(self, text: str, at: int) -> tuple[int, str]:
        found = PARAMETERS.match(text, at)
        assert found is not None
        self._parameters = (self._parameters + found[0])[:LONGEST_PARAMETERS]
        at = found.end()
        if at == len(text):
            return at, ""
        self._state = State.TEXT
        if not "@" <= text[at] <= "~":
            return at, ""
        return at + 1, self._act(text[at])

    def _string(self, text: str, at: int) -> tuple[int, str]:
        """A title or the like; one that never ends does not take more than its line."""
        found = STRING_END.search(text, at)
        if found is None:
            return len(text), ""
        at = found.start()
        self._state = State.ESCAPE if found[0] == "\x1b" else State.TEXT
        return (at if found[0] in "\r\n" else at + 1), ""

    def _act(self, final: str) -> str:
        """Do what a control sequence says; the line that is over thereby."""
        number = int(self._parameters) if self._parameters.isdecimal() else 0
        if final in OTHER_ROW:
            return self._begin_anew()
        if final in "G`":
            return self._move_to(number - 1) if number > 1 else self._begin_anew()
        if final == "C":
            self._column = min(self._column + max(number, 1), LONGEST_LINE - 1)
        elif final == "D":
            return self._move_to(self._column - max(number, 1))
        elif final in "JK":
            return self._erase(number)
        return ""

    def _erase(self, what: int) -> str:
        if what == 0 and self._column > 0:
            self.line = self.line[: self._column]
            return ""
        if what == 1:
            self.line = " " * min(self._column, len(self.line)) + self.line[self._column :]
            return ""
        column = self._column
        shown = self._begin_anew()
        self._column = column
        return shown

    def _print(self, text: str) -> None:
        self._credit = min(self._credit + SHOWN_FOR_EACH * len(text), LONGEST_LINE)
        self._printed = True
        before = self.line[: self._column].ljust(self._column)
        self._column += len(text)
        self.line = before + text + self.line[self._column :]

    def _move_to(self, column: int) -> str:
        shown = ""
        if self._printed and self._credit >= len(self.line):
            self._credit -= len(self.line)
            self._printed = False
            shown = self.line
        self._column = max(0, min(column, LONGEST_LINE - 1))
        return shown

    def _begin_anew(self) -> str:
        shown = self.line if self._printed else ""
        self.line = ""
        self._column = 0
        self._printed = False
        return shown
