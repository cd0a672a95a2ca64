"""No pattern takes longer than in proportion to its text, whatever the text.

A pattern is read as an automaton of the characters it takes. Matching goes back over a text again
and again where one piece of it can be taken in two ways that both may go on: there is a text that
leads from one place of the pattern to itself, from there to a later one, and from that to itself as
well (Weber and Seidl, 1991). Where `search` may begin anywhere, that is a place too.
"""

import ast
import re
import re._constants as op  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
UNBOUNDED = 1000
"""So many repeats are as good as any number."""
LETTERS = [chr(code) for code in range(0x180)] + list("\ud800\udfff\u2028\u2029\ufeff\u0660漢😀")
"""Characters that stand for all: what patterns tell apart is among them."""
SEARCHED = ("search", "findall", "finditer", "sub", "subn", "split")
METHODS = (*SEARCHED, "match", "fullmatch")
LITERAL = re.compile(
    r"(?<=[=(,:!&|?\[;{} \n])/(?![/* ])((?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+)/([dgimsuvy]*)"
    r"(?=[\s.,;)\]])"
)
"""A regular expression in JavaScript."""
LUA = re.compile(r"string\.(?:match|find|gmatch|gsub)\([^\n]*?'([^']*)'")


@dataclass
class Automaton:
    """The places of a pattern (what each takes, and which may follow it)."""

    takes: list[frozenset[str]] = field(default_factory=list)
    follows: list[set[int]] = field(default_factory=list)
    ends: set[int] = field(default_factory=set)
    twice: bool = False
    """Whether one place follows another for two reasons: then the ways double at each step."""

    def place(self, letters: frozenset[str]) -> int:
        self.takes.append(letters)
        self.follows.append(set())
        return len(self.takes) - 1

    def link(self, lasts: set[int], firsts: set[int], *, again: bool = False) -> None:
        for last, first in product(lasts, firsts):
            self.twice |= again and first in self.follows[last]
            self.follows[last].add(first)

    def steps(self, states: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Where several who read the same text may be after one more character."""
        for others in product(*(self.follows[state] for state in states)):
            if frozenset.intersection(*(self.takes[other] for other in others)):
                yield others

    def reaches(self, start: tuple[int, ...], goal: tuple[int, ...]) -> bool:
        seen, todo = set(), [start]
        while todo:
            for found in self.steps(todo.pop()):
                if found == goal:
                    return True
                if found not in seen:
                    seen.add(found)
                    todo.append(found)
        return False

    def superlinear(self) -> bool:
        """Whether some text can be taken in more ways than it has characters, and refused."""
        loops = [state for state in range(len(self.takes)) if self.reaches((state,), (state,))]
        return self.twice or any(
            self.reaches((one, one, other), (one, other, other)) or self.doubles(one, other, loops)
            for one, other in product(loops, loops)
            # What may end there does not go back.
            if one != other and other not in self.ends
        )

    def doubles(self, one: int, other: int, loops: list[int]) -> bool:
        """Whether two ways go apart somewhere, to these places, and come together there again."""
        return any(
            self.reaches((start, start), (one, other))
            and self.reaches((one, other), (start, start))
            for start in loops
        )


Part = tuple[set[int], set[int], bool]
"""The places where it may begin, where it may end, and whether it may be empty."""


class Builder:
    """Makes an automaton of what `re` has parsed (Glushkov, 1961)."""

    def __init__(self, flags: int) -> None:
        self.found = Automaton()
        self.flags = flags
        self.inner: list[Any] = []
        """What is looked for ahead, by itself."""

    def sequence(self, items: Any) -> Part:
        firsts, lasts, empty = set[int](), set[int](), True
        for kind, value in items:
            first, last, may_be_empty = self.part(kind, value)
            self.found.link(lasts, first)
            firsts |= first if empty else set()
            lasts = last | (lasts if may_be_empty else set())
            empty &= may_be_empty
        return firsts, lasts, empty

    def part(self, kind: Any, value: Any) -> Part:
        if kind in (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN):
            place = self.found.place(self.letters(kind, value))
            return {place}, {place}, False
        if kind is op.BRANCH:
            parts = [self.sequence(items) for items in value[1]]
            self.found.twice |= sum(part[2] for part in parts) > 1
            return (
                set().union(*(part[0] for part in parts)),
                set().union(*(part[1] for part in parts)),
                any(part[2] for part in parts),
            )
        if kind is op.SUBPATTERN:
            return self.sequence(value[3])
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            return self.repeat(*value)
        if kind in (op.ASSERT, op.ASSERT_NOT):
            self.inner.append(value[1])
            return set(), set(), True
        if kind is op.AT:
            return set(), set(), True
        raise NotImplementedError(kind)

    def repeat(self, least: int, most: int, items: Any) -> Part:
        copies = [self.sequence(items) for _ in range(min(most, 2) if most <= UNBOUNDED else 1)]
        firsts, lasts, empty = copies[0]
        for first, last, _ in copies[1:]:
            self.found.link(lasts, first)
            lasts = lasts | last
        if most > UNBOUNDED:
            self.found.link(lasts, firsts, again=True)
        return firsts, lasts, empty or least == 0

    def takes_all(self, place: int) -> bool:
        return self.found.takes[place] == set(LETTERS) and place in self.found.follows[place]

    def letters(self, kind: Any, value: Any) -> frozenset[str]:
        taken = {letter for letter in LETTERS if self.takes(kind, value, letter)}
        if self.flags & re.IGNORECASE:
            taken |= {letter.swapcase() for letter in taken}
        return frozenset(taken)

    def takes(self, kind: Any, value: Any, letter: str) -> bool:
        code = ord(letter)
        if kind is op.LITERAL:
            return bool(code == value)
        if kind is op.NOT_LITERAL:
            return bool(code != value)
        if kind is op.ANY:
            return letter != "\n" or bool(self.flags & re.DOTALL)
        if kind is op.RANGE:
            return bool(value[0] <= code <= value[1])
        if kind is op.CATEGORY:
            name = str(value).removeprefix("CATEGORY_").removeprefix("NOT_")[0].lower()
            shown = f"\\{name.upper() if '_NOT_' in str(value) else name}"
            return re.match(shown, letter, self.flags & re.ASCII) is not None
        negated = value[0][0] is op.NEGATE
        return negated != any(self.takes(kind, item, letter) for kind, item in value[negated:])


def is_linear(pattern: str, flags: int = 0, how: str = "search") -> bool:
    """Whether to match a text with a pattern takes no longer than in proportion to its length."""
    parsed = parser.parse(pattern, flags)
    builder = Builder(parsed.state.flags)
    firsts, lasts, _ = builder.sequence(parsed)
    anchored = parsed and parsed[0] in ((op.AT, op.AT_BEGINNING), (op.AT, op.AT_BEGINNING_STRING))
    if how in SEARCHED and not anchored:
        anywhere = builder.found.place(frozenset(LETTERS))
        builder.found.link({anywhere}, firsts | {anywhere})
    last = parsed[-1] if parsed else None
    if how != "fullmatch" and (last is None or last[0] is not op.AT):
        builder.found.ends = lasts
    else:  # What takes all that is left does not go back either.
        builder.found.ends = {end for end in lasts if builder.takes_all(end)}
    inner = (is_linear_part(items, builder.flags) for items in builder.inner)
    return not builder.found.superlinear() and all(inner)


def is_linear_part(items: Any, flags: int) -> bool:
    builder = Builder(flags)
    builder.sequence(items)
    return not builder.found.superlinear()


@dataclass(frozen=True)
class Pattern:
    """A pattern, where it is, and how it is used."""

    where: str
    text: str
    flags: int = 0
    how: str = "search"


def in_python(path: Path) -> Iterator[Pattern]:
    """The patterns that a module gives to `re`."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree))
    uses: dict[str, set[str]] = {}
    names: dict[ast.AST, str] = {}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            uses.setdefault(node.value.id, set()).add(node.attr)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names[node.value] = node.targets[0].id
    for node in nodes:
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name = node.func.attr
        of_re = isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
        if not of_re or name not in (*METHODS, "compile") or not constant(node.args[0]):
            continue
        flags = 0
        for argument in (*node.args[1:], *(keyword.value for keyword in node.keywords)):
            if ast.unparse(argument).startswith("re."):
                flags |= eval(ast.unparse(argument), {"re": re})
        ways = {name} if name in METHODS else uses.get(names.get(node, ""), set()) & set(METHODS)
        for how in ways or {"search"}:
            text = ast.literal_eval(node.args[0])
            yield Pattern(f"{path.name}:{node.lineno}", text, flags, how)


def constant(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def in_javascript(path: Path) -> Iterator[Pattern]:
    """The regular expressions that are written out in a module."""
    for found in LITERAL.finditer(path.read_text()):
        text = re.sub(r"\(\?<(?=[A-Za-z])", "(?P<", found[1])
        text = re.sub(r"\\p\{[^}]*\}", r"\\w", text)
        flags = re.ASCII if "u" not in found[2] else 0
        flags |= re.IGNORECASE if "i" in found[2] else 0
        flags |= re.DOTALL if "s" in found[2] else 0
        yield Pattern(path.name, text, flags, "match" if "y" in found[2] else "search")


def in_lua(path: Path) -> Iterator[Pattern]:
    """The patterns of a script, in the syntax of `re`."""
    for found in LUA.finditer(path.read_text()):
        yield Pattern(path.name, found[1].replace("%", "\\"), re.DOTALL)


SOURCES = {
    in_python: [*ROOT.glob("server/**/*.py"), *ROOT.glob("client/hourglass/**/*.py")],
    in_javascript: [*ROOT.glob("client/**/*.js")],
    in_lua: [*ROOT.glob("server/store/redis/lua/*.lua")],
}
PATTERNS = [
    pattern for read, paths in SOURCES.items() for path in sorted(paths) for pattern in read(path)
]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.where)
def test_a_pattern_is_linear(pattern: Pattern) -> None:
    assert is_linear(pattern.text, pattern.flags, pattern.how), pattern


def test_patterns_of_all_languages_are_found() -> None:
    found = [sum(pattern.where.split(":")[0].endswith(end) for pattern in PATTERNS)
             for end in (".py", ".js", ".lua")]  # fmt: skip
    assert all(number >= least for number, least in zip(found, (18, 8, 8), strict=True)), found


@pytest.mark.parametrize(
    ("pattern", "how"),
    [
        (r"\d+\.?\d*", "fullmatch"),
        (r"\d+x", "search"),
        (r"\s*\s*x", "match"),
        (r"(a+)+b", "match"),
        (r"(a|a)*b", "match"),
        (r"(ab|[ac]b)*d", "match"),
        (r"(a*){2}b", "match"),
        (r"^x\s*(.*)$", "search"),
        (r"a(?=.*.*b)", "match"),
    ],
)
def test_what_is_not_linear_is_told(pattern: str, how: str) -> None:
    assert not is_linear(pattern, 0, how)


@pytest.mark.parametrize(
    ("pattern", "how"),
    [
        (r"\d+(\.\d*)?", "fullmatch"),
        (r"[\r\n]+", "split"),
        (r"x\d+y", "search"),
        (r"(a+b)+c", "match"),
        (r"[^:]*:.*", "fullmatch"),
        (r"[a-z]{1,64}", "search"),
    ],
)
def test_what_is_linear_is_told(pattern: str, how: str) -> None:
    assert is_linear(pattern, 0, how)
