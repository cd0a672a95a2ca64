"""A reader: the lines in which a tool says how far it is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hourglass.formatting import printable

LONGEST_NOTE = 200


@dataclass(frozen=True)
class Progress:
    """How far the command says that it is: from 0 to 1, and in words."""

    done: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Found:
    """What a line says: how far, from 0 to 1; which of several bars or phases; and more words."""

    done: float
    label: str | None = None
    note: str | None = None
    rank: int = 0
    """Which of the reader's patterns it was, the best being 0."""


@dataclass(frozen=True)
class Reader:
    """How to read one tool.

    The groups of a pattern say what it finds: `percent`, or `fraction`, or `done` and `total`, or
    `begun` and `total` (the step that has begun is not done), or `left` and `total`, or the times
    `at` and `length`. `part` and `parts` count rounds of all that. `label` tells bars or phases
    from each other, `note` is shown.
    """

    name: str
    seen: str
    """The tool and its version, where its lines were seen."""
    patterns: tuple[re.Pattern[str], ...]
    before: re.Pattern[str] | None = None
    """A line that comes before; its groups hold until the next. Without it nothing is read."""
    optional_before: re.Pattern[str] | None = None
    """The same, where it need not come."""
    command: re.Pattern[str] | None = None
    """What the command has to be, for lines that say too little of themselves."""
    phases: bool = False
    """Each of its bars is a part of the whole, nobody knows which: they are shown in words."""
    nested: bool = False
    """It shows several bars at once, the outer one first."""
    grows: bool = False
    """Its whole may grow while it works."""
    ranked: bool = False
    """Once a better pattern has matched, those after it are not looked at."""

    def remember(self, line: str) -> dict[str, str] | None:
        """The groups of a line that comes before."""
        before = self.before or self.optional_before
        found = before.search(line) if before else None
        return None if found is None else groups(found)

    def read(self, line: str, remembered: Mapping[str, str], worst: int = 99) -> Found | None:
        """What a line says, given what came before; patterns after `worst` are left out."""
        for rank, pattern in enumerate(self.patterns[: worst + 1]):
            if match := pattern.search(line):
                named = {**remembered, **groups(match)}
                done = fraction(named)
                if done is not None:
                    return Found(done, clean(named.get("label")), clean(named.get("note")), rank)
        return None


def groups(match: re.Match[str]) -> dict[str, str]:
    """The named groups that took part."""
    return {name: text for name, text in match.groupdict().items() if text is not None}


def fraction(named: Mapping[str, str]) -> float | None:
    """How far the groups of a pattern say that it is, from 0 to 1; None if they do not."""
    try:
        done = part(named)
        if "parts" in named:
            done = (number(named["part"]) - 1 + done) / number(named["parts"])
    except (KeyError, ValueError, ZeroDivisionError):
        return None
    return round(done, 4) if 0 <= done <= 1 else None


def part(named: Mapping[str, str]) -> float:
    """The same without rounds. Raises `KeyError`, `ValueError` and `ZeroDivisionError`."""
    if "percent" in named:
        return number(named["percent"]) / 100
    if "fraction" in named:
        return float(named["fraction"])
    if "at" in named:
        return seconds(named["at"]) / seconds(named["length"])
    total = number(named["total"])
    if "begun" in named:
        return (number(named["begun"]) - 1) / total
    if "left" in named:
        return (total - number(named["left"])) / total
    return number(named["done"]) / total


def number(text: str) -> float:
    return float(text.replace(",", ""))


def seconds(text: str) -> float:
    """The seconds of `1:02:03.4`."""
    hours, minutes, rest = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def clean(text: str | None) -> str | None:
    """Words to be shown, without what a bar has around them."""
    return printable(text or "").strip(" :").strip()[:LONGEST_NOTE] or None
