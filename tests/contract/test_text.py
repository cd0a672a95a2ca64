"""Which characters names may have, and what becomes of the others."""

import json
import logging
import sys
import unicodedata
from typing import Any

import pytest

from server.audit import AuditRecord
from server.config import Config
from server.contract.text import HIDDEN, NAME
from server.contract.validation import Checker
from server.errors import Invalid
from server.monitoring.process_log import JsonLines, TextLines, json_line, text_line

UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's classes of what is not seen, or moves what is around it."""
TELLING = {
    "right to left": "job\u202eexe",
    "isolate": "\u2067job\u2069",
    "mark": "job\u200f",
    "zero-width space": "jo\u200bb",
    "zero-width joiner": "jo\u200db",
    "byte order mark": "\ufeffjob",
    "soft hyphen": "jo\u00adb",
    "tag": "job\U000e0041",
    "line separator": "jo\u2028b",
    "next line": "jo\x85b",
    "escape": "\x1b[31mjob",
}
PLAIN = ("a b", "é漢字😀❤️", "\u3000山\u3000", "سلام", "שלום", "e\u0301", "\U00020000")


def test_no_name_has_a_character_that_is_not_seen() -> None:
    wrong = []
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        kind = unicodedata.category(character)
        # What this Python does not know yet may be one in a newer version of Unicode.
        if kind != "Cn" and (NAME.fullmatch(character) is None) != (kind in UNSEEN):
            wrong.append((hex(number), kind))
    assert wrong == []


@pytest.mark.parametrize("text", TELLING.values(), ids=TELLING)
@pytest.mark.parametrize("field", ["connid", "run"])
def test_commands_name_nothing_by_it(field: str, text: str) -> None:
    checker = Checker(Config())
    payload: dict[str, Any] = {"connid": "a", "run": "r", field: text}
    with pytest.raises(Invalid) as refused:
        checker.command("finish", payload)
    assert refused.value.field == field
    assert checker.event(json.dumps(["finish", payload])) is None


@pytest.mark.parametrize("text", TELLING.values(), ids=TELLING)
def test_nobody_goes_by_such_a_name(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        Checker(Config()).hello({"name": f"x{text}x"})
    assert refused.value.field == "name"


@pytest.mark.parametrize("text", PLAIN)
def test_names_are_of_any_language(text: str) -> None:
    checker = Checker(Config())
    assert checker.command("kill", {"connid": text}).connid == text  # type: ignore[union-attr]
    assert checker.hello({"name": text}).name == text.strip()


@pytest.mark.parametrize("text", TELLING.values(), ids=TELLING)
def test_the_log_shows_what_is_not_seen_by_its_number(text: str) -> None:
    change = AuditRecord(
        at=0, event="killed", room="main", connid="a", run="r", by="ana", via="http", reason=text
    )
    for write in (json_line, text_line):
        assert HIDDEN.search(write(change).removesuffix("\n")) is None
    assert json.loads(json_line(change))["reason"] == text


@pytest.mark.parametrize("text", [*TELLING.values(), "\n2026-01-01 00:00:00 ERROR server: forged"])
def test_no_record_of_the_log_begins_a_line_that_is_not_its_own(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        told = {"msg": "said %s", "args": (text,), "levelname": "INFO", "exc_info": sys.exc_info()}
    for formatter in (TextLines(), JsonLines()):
        line, *below = formatter.format(logging.makeLogRecord(told)).split("\n")
        assert "said" in line
        assert all(more.startswith("  ") for more in below)
        assert not any(HIDDEN.search(shown) for shown in (line, *below))
