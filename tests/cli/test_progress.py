"""Progress: the bytes of real tools, what only looks like one, and how a text is cut."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hourglass.output import Output
from hourglass.progress.reader import Progress
from hourglass.progress.readers import NAMES, READERS
from hourglass.progress.reading import Reading, reading_of
from hourglass.progress.screen import Screen

CAPTURES = Path(__file__).parent / "captures"
MANUAL = Path(__file__).parent.parent.parent / "docs" / "cli.md"

EXPECTED: dict[str, tuple[str, int, float | str]] = {
    "7z-extract.pty": ("7z", 1, 0.94),
    "7zz-bsp1.pipe": ("7z", 57, 0.99),
    "7zz-bsp1.pty": ("7z", 75, 0.99),
    "apt-install.pipe": ("apt", 40, "Reading database: 100%"),
    "apt-install.pty": ("apt", 30, "Reading database: 100%"),
    "aria2.pipe": ("aria2", 4, 0.93),
    "aria2.pty": ("aria2", 4, 0.93),
    "buildkit.pipe": ("buildkit", 3, 0.5),
    "buildkit.pty": ("buildkit-tty", 5, "Building: 100%"),
    "cargo-build-always.pipe": ("cargo", 18, 0.9412),
    "cargo-build-always.pty": ("cargo", 18, 0.9412),
    "cargo-build.pty": ("cargo", 18, 0.9412),
    "cmake-make.pipe": ("make", 9, 0.28),
    "cmake-make.pty": ("make", 10, 0.31),
    "ctest-progress.pipe": ("ctest", 6, 1.0),
    "ctest-progress.pty": ("ctest", 7, 1.0),
    "curl-hash.pipe": ("curl", 36, 1.0),
    "curl-hash.pty": ("curl", 35, 1.0),
    "curl-put.pipe": ("curl", 5, 1.0),
    "curl-put.pty": ("curl", 5, 1.0),
    "curl.pipe": ("curl", 5, 1.0),
    "curl.pty": ("curl", 5, 1.0),
    "ddrescue.pipe": ("ddrescue", 5, 1.0),
    "ddrescue.pty": ("ddrescue", 5, 1.0),
    "docker-build.pipe": ("docker", 6, 0.8333),
    "docker-build.pty": ("docker", 6, 0.8333),
    "duplicity.pipe": ("pv", 2, 1.0),
    "duplicity.pty": ("pv", 2, 1.0),
    "enlighten.pty": ("tqdm", 20, 1.0),
    "ffmpeg-file.pipe": ("ffmpeg", 42, 0.9967),
    "ffmpeg-file.pty": ("ffmpeg", 42, 0.9967),
    "fio.pty": ("fio", 2, 1.0),
    "git-clone-progress.pipe": ("git", 348, "Updating files: 100%"),
    "git-clone-progress.pty": ("git", 321, "Updating files: 100%"),
    "gradle-help.pty": ("gradle", 2, 0.0),
    "indicatif.pty": ("indicatif", 57, 1.0),
    "keras.pipe": ("keras", 33, 1.0),
    "keras.pty": ("keras", 33, 1.0),
    "meson-compile.pipe": ("ninja", 16, 1.0),
    "meson-compile.pty": ("ninja", 32, 1.0),
    "meson-test.pipe": ("meson", 5, 1.0),
    "meson-test.pty": ("meson", 5, 1.0),
    "ninja.pipe": ("ninja", 9, 0.2812),
    "ninja.pty": ("ninja", 27, 0.375),
    "nmap.pipe": ("nmap", 7, 0.917),
    "nmap.pty": ("nmap", 7, 0.888),
    "node-cp.pty": ("cli-progress", 20, 1.0),
    "parallel-bar.pipe": ("parallel", 6, 0.25),
    "parallel-bar.pty": ("parallel", 5, 0.25),
    "pg_basebackup.pipe": ("pg_basebackup", 6, 1.0),
    "pg_basebackup.pty": ("pg_basebackup", 6, 1.0),
    "pgbench-init.pipe": ("pgbench", 15, 1.0),
    "pgbench-init.pty": ("pgbench", 15, 1.0),
    "pip-download.pipe": ("pip", 3, "markdown_it_py-4.3.0-py3-none-any.whl: 100%"),
    "pip-download.pty": ("pip", 6, "markdown_it_py-4.3.0-py3-none-any.whl: 100%"),
    "pip-install.pipe": (
        "pip",
        1,
        "numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl: 100%",
    ),
    "pip-install.pty": (
        "pip",
        2,
        "numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl: 100%",
    ),
    "progressbar2.pipe": ("progressbar2", 21, 1.0),
    "progressbar2.pty": ("progressbar2", 21, 1.0),
    "pv-n.pipe": ("pv-n", 3, 1.0),
    "pv-n.pty": ("pv-n", 3, 1.0),
    "pv.pty": ("pv", 3, 1.0),
    "py-alive.pipe": ("alive-progress", 1, 1.0),
    "py-alive.pty": ("alive-progress", 31, 1.0),
    "py-click.pty": ("click", 61, 1.0),
    "py-rich.pipe": ("rich", 1, 1.0),
    "py-rich.pty": ("rich", 17, 1.0),
    "py-torch-log.pipe": ("pytorch", 40, "Epoch: 1: 95%"),
    "py-torch-log.pty": ("pytorch", 40, "Epoch: 1: 95%"),
    "py-tqdm.pipe": ("tqdm", 16, 1.0),
    "py-tqdm.pty": ("tqdm", 16, 1.0),
    "pytest-count.pipe": ("pytest", 1, 1.0),
    "pytest-count.pty": ("pytest", 1, 1.0),
    "pytest-v.pipe": ("pytest", 41, 1.0),
    "pytest-v.pty": ("pytest", 41, 1.0),
    "pytest-xdist-v.pipe": ("pytest", 20, 1.0),
    "pytest-xdist-v.pty": ("pytest", 20, 1.0),
    "pytest-xdist.pipe": ("pytest", 1, 1.0),
    "pytest-xdist.pty": ("pytest", 1, 1.0),
    "pytest.pipe": ("pytest", 1, 1.0),
    "pytest.pty": ("pytest", 1, 1.0),
    "rclone-P.pipe": ("rclone", 8, 1.0),
    "rclone-P.pty": ("rclone", 8, 1.0),
    "rclone-oneline.pipe": ("rclone", 1, 1.0),
    "rclone-oneline.pty": ("rclone", 8, 1.0),
    "rclone-stats.pipe": ("rclone", 8, 1.0),
    "rclone-stats.pty": ("rclone", 8, 1.0),
    "restic-fps.pipe": ("restic", 2, 0.967),
    "restic-fps.pty": ("restic", 2, 0.9908),
    "restic-json.pipe": ("restic", 22, 1.0),
    "restic-json.pty": ("restic", 32, 1.0),
    "rich-nested.pipe": ("rich", 4, 1.0),
    "rich-nested.pty": ("rich", 40, 1.0),
    "rich-two.pipe": ("rich", 5, 1.0),
    "rich-two.pty": ("rich", 14, "Inner 2: 100%"),
    "rsync-one.pipe": ("rsync", 4, 1.0),
    "rsync-one.pty": ("rsync", 4, 1.0),
    "rsync-progress.pipe": ("rsync", 61, 1.0),
    "rsync-progress.pty": ("rsync", 61, 1.0),
    "rsync-progress2.pipe": ("rsync", 101, 1.0),
    "rsync-progress2.pty": ("rsync", 101, 1.0),
    "snakemake.pipe": ("snakemake", 7, 1.0),
    "snakemake.pty": ("snakemake", 7, 1.0),
    "tqdm-files.pipe": ("tqdm", 22, 1.0),
    "tqdm-files.pty": ("tqdm", 22, 1.0),
    "tqdm-nested.pipe": ("tqdm", 22, 1.0),
    "tqdm-nested.pty": ("tqdm", 22, 1.0),
    "wget-bar-force.pipe": ("wget", 20, 1.0),
    "wget-bar-force.pty": ("wget", 20, 1.0),
    "wget.pipe": ("wget", 6, 0.05),
    "wget.pty": ("wget", 20, 1.0),
    "xz-v.pty": ("xz", 8, 1.0),
}
"""What a tool prints into a pipe, and on a terminal of 80 columns: the reader that reads it, how
many different things it reads, and the last of them."""
WITHOUT = {
    "borg.pipe",
    "borg.pty",
    "cargo-build.pipe",
    "curl-hash-unknown.pipe",
    "curl-hash-unknown.pty",
    "curl-unknown.pipe",
    "curl-unknown.pty",
    "dd-progress.pipe",
    "dd-progress.pty",
    "enlighten.pipe",
    "ffmpeg.pipe",
    "ffmpeg.pty",
    "fio.pipe",
    "gradle-help.pipe",
    "indicatif.pipe",
    "mvn.pipe",
    "mvn.pty",
    "node-cp.pipe",
    "node-listr.pipe",
    "node-listr.pty",
    "node-ora.pipe",
    "node-ora.pty",
    "npm-ci.pipe",
    "npm-ci.pty",
    "pv.pipe",
    "py-click.pipe",
    "pytest-s-many.pipe",
    "pytest-s-many.pty",
    "pytest-s.pipe",
    "pytest-s.pty",
    "tar-checkpoint.pipe",
    "tar-checkpoint.pty",
    "terraform.pipe",
    "terraform.pty",
    "wget-unknown.pipe",
    "wget-unknown.pty",
    "xz-v.pipe",
    "zstd.pipe",
    "zstd.pty",
}
"""Where there is no progress to be read, though some of it looks like one."""


def frames(text: str, command: str = "") -> Iterator[Reading]:
    """The reading of a text after each of its lines."""
    screen, reading = Screen(), reading_of("auto", command)
    assert isinstance(reading, Reading)
    for line in screen.feed(text):
        reading.read(line)
        yield reading
    yield reading.after(screen.line)


def capture(name: str) -> str:
    return (CAPTURES / name).read_bytes().decode(errors="replace")


def command_of(name: str) -> str:
    return "pv -n file" if name.startswith("pv-n") else ""


@pytest.mark.parametrize("name", EXPECTED)
def test_the_progress_of_a_tool_is_read(name: str) -> None:
    reader, different, last = EXPECTED[name]
    told: list[Progress] = []
    for reading in frames(capture(name), command_of(name)):
        progress = reading.progress
        if progress is not None and progress not in told[-1:]:
            told.append(progress)
    assert reading._believed is NAMES[reader]
    assert len(told) == different
    assert (told[-1].note if isinstance(last, str) else told[-1].done) == last
    bar = [progress.done for progress in told if progress.done is not None]
    assert bar == sorted(bar), "a bar never falls"


@pytest.mark.parametrize("name", sorted(WITHOUT))
def test_where_there_is_none_none_is_read(name: str) -> None:
    assert {reading.progress for reading in frames(capture(name))} == {None}


def test_every_capture_is_in_one_of_the_two_lists() -> None:
    there = {path.name for path in CAPTURES.glob("*.p*")}
    assert there == {*EXPECTED, *WITHOUT} and not WITHOUT & {*EXPECTED}


def test_every_reader_has_read_a_real_tool_and_is_in_the_manual() -> None:
    read = {reader for reader, _, _ in EXPECTED.values()}
    assert read == set(NAMES) and len(READERS) == len(NAMES)
    manual = MANUAL.read_text()
    missing = [r.name for r in READERS if f"| `{r.name}` | {r.seen} |" not in manual]
    assert not missing


@pytest.mark.parametrize(
    ("text", "done", "note"),
    [
        ("progress: 40% tables 12/30\n", 0.4, "tables 12/30"),
        ("Progress: 7.5%\n", 0.075, None),
        ("progress: 12/30 tables\n", 0.4, "tables"),
        ("[12/30] Building CXX object x.o\n", 0.4, "Building CXX object x.o"),
        ("progress: 1/4\rprogress: 2/4\rprogress: 3/4\r", 0.75, None),
        ("progress: 1/4\nother\n\n", 0.25, None),
        ("\x1b[32mprogress: 50%\x1b[0m \x1b]0;title\x07\n", 0.5, None),
        ("INFO:root:progress: 40% of tables\n", 0.4, "of tables"),
        ("2026-11-30 01:02:03,456 - jobs.nightly - INFO - progress: 40%\n", 0.4, None),
        ("[2026-11-30T01:02:03Z] progress: 3/4\n", 0.75, None),
        ("01:02:03.456 Progress: 40%\n", 0.4, None),
        ("WARN progress: 40%\n", 0.4, None),
        ("web-1  | progress: 40%\n", 0.4, None),
        ("I1130 01:02:03.456789    7 main.go:12] progress: 40%\n", 0.4, None),
        # A line is read as it stands.
        ("\rprogress: 40%", 0.4, None),
        ("progress: 40%\b\b\b50%", 0.5, None),
        ("progress: 40%\x1b[1Gprogress: 50%", 0.5, None),
        ("progress: 40%\x1b[2Kprogress: 50%", 0.5, None),
        ("\x1b7progress: 40%\x1b8progress: 50%", 0.5, None),
        ("progress: 40% of all\rprogress: 50%\x1b[K", 0.5, None),
        # What a program says of itself goes before what its tools print.
        ("progress: 10%\n[ 90%] Building C object x.o\n", 0.1, None),
    ],
)
def test_progress_is_read_from_lines(text: str, done: float, note: str | None) -> None:
    *_, last = frames(text)
    assert last.progress == Progress(done, note)


LOOKALIKES = """
11/30
3/4
2026/11/24 started
11/24 09:00 x
[3/10] Subject of a mail
[PATCH 3/10] Building on what we have
[ 3%] of the quota
Progress: 5% done yesterday
we made progress: 40% more than last year
in_progress: 40%
Progress: 140%
progress: 3/2
progress: 0/0
progress: 5.0 s, 123.4 tps
75% of quota used
50% tests passed, 3 tests failed out of 6
/dev/vda1        30G   12G   17G  42% /
Disk usage: 75% (3/4)
load average: 0.50, 0.40, 0.30
12 packets transmitted, 12 received, 0% packet loss, time 11ms
cpu 12% mem 40%
compressed to 33% of its size
x.tar : 33.41%   ( 10.0 MiB =>   3.34 MiB, x.tar.zst)
x: 13.4 MiB / 13.4 MiB = 0.997, 1.6 MiB/s, 0:08
Step 3/10: mix the flour
Epoch 3/10
#4 [2/4]
1 of 3 done
3 of 10 steps
| total | 100% |
coverage: 87.5% of statements
TOTAL                 123     12    90%
All files |   91.2 |    80 |
time=40 ms
100%
33
# 40%
"""


@pytest.mark.parametrize("line", LOOKALIKES.strip().split("\n"))
def test_what_only_looks_like_progress_is_none(line: str) -> None:
    for text in (line, f"{line}\n", f"\r{line}\r", f"{line}\n" * 20):
        assert {reading.progress for reading in frames(text)} == {None}


def test_a_reader_that_has_matched_is_believed_until_another_tool_runs() -> None:
    curl = "{:>3} 60.0M {:>4} 3072k    0     0  16.7M      0  0:00:03 --:--:--  0:00:03 16.7M\r"
    make = "[{:>3}%] Building C object m.c.o\n"
    *_, one = frames(curl.format(5, 5) + make.format(90) + make.format(95) + curl.format(6, 6))
    assert one.progress == Progress(0.06, None)
    lines = [make.format(percent) for percent in (1, 2, 3)]
    *_, other = frames(curl.format(50, 50) + "".join(lines))
    assert other.progress == Progress(None, "make: 3%"), "it has taken over, and does not fall"


def test_what_begins_again_and_again_is_shown_in_words() -> None:
    line = "file           {:>3}%[==>         ]  1.00M  16.2MB/s\r"
    text = "".join(line.format(percent) for _ in range(3) for percent in (0, 50, 100))
    told = [reading.progress for reading in frames(text)]
    assert told[:3] == [Progress(0.0, "file"), Progress(0.5, "file"), Progress(1.0, "file")]
    assert {progress.done for progress in told[3:] if progress} == {None}
    assert told[-1] == Progress(None, "file: 100%")


def test_of_nested_bars_it_is_the_outermost_that_moves() -> None:
    line = "\r{}: {:>3}%|##   | {}/4 [00:00<00:01, 33.02it/s]\n"
    text = line.format("total", 0, 0)  # Which never moves.
    text += "".join(line.format("part", 25 * at, at) for _ in range(5) for at in (0, 2, 4))
    *_, reading = frames(text)
    assert reading.progress == Progress(None, "part: 100%")
    text = line.format("epoch", 0, 0)
    for epoch in (1, 2):
        text += "".join(line.format("part", 25 * at, at) for at in (0, 2, 4))
        text += line.format("epoch", 25 * epoch, epoch)
    *_, reading = frames(text)
    assert reading.progress == Progress(0.5, "2/4")


def test_none_and_the_name_of_a_reader_can_be_chosen() -> None:
    line = "[ 40%] Building C object m.c.o"
    for choice, done in (("none", None), ("make", 0.4), ("ninja", None), ("auto", 0.4)):
        reading = reading_of(choice, "")
        reading.read(line)
        assert (reading.progress and reading.progress.done) == done
    reading = reading_of("pv-n", "./backup.sh")
    reading.read("33")
    assert reading.progress == Progress(0.33)


PIECES = st.sampled_from(
    [
        *("\r", "\n", "\b", "\b\b\b\b", "\t", "\x1b[K", "\x1b[2K", "\x1b[1G", "\x1b[3D", "\x1b[2C"),
        *("\x1b[31m", "\x1b[1;32m", "\x1b7", "\x1b8", "\x1b[A", "\x1b[?25l", "\x1b(B", "\x1b[5G"),
        *("\x1b]0;50%\x07", "\x1b]0;never ends", "\x1bP1;2\x1b\\", "\x1b", "\x1b[", "\x1b[1;", "é"),
        *("progress: 4", "0%", "1/3", "0", " ", "[ 40%] Building C object x", "x" * 600, "漢"),
        *("part:  40%|##   | 2/5 [00:01<00:02]", "sum:  20%|#    | 1/5 [00:01<00:02]"),
        *("Receiving objects:  45% (9/20)", "[#", "-]", "100%", "12 B/s", "{", "}", '"'),
    ]
)


def test_a_sequence_may_be_cut_within_its_parameters() -> None:
    whole, cut = Screen(), Screen()
    assert list(whole.feed("1/3\x1b[1;1/3K.")) == []
    for character in "1/3\x1b[1;1/3K.":
        assert list(cut.feed(character)) == []
    assert cut.line == whole.line == "1/3."


@settings(deadline=None)  # A machine may be busy.
@given(st.lists(PIECES, max_size=40), st.randoms(use_true_random=False))
def test_a_text_says_the_same_however_it_is_cut(pieces: list[str], chance: random.Random) -> None:
    text = "".join(pieces)
    whole = Output(reading_of("auto", ""))
    whole.channel()(text)
    cut = Output(reading_of("auto", ""))
    feed = cut.channel()
    while text:
        size = chance.choice([1, 1, 2, 5, 20, 100])
        feed(text[:size])
        text = text[size:]
        if chance.random() < 0.5:
            cut.progress()
    assert cut.progress(final=True) == whole.progress(final=True)
    assert cut._channels[0].screen.line == whole._channels[0].screen.line


@pytest.mark.parametrize("name", EXPECTED)
def test_the_bytes_of_a_tool_say_the_same_however_they_are_cut(name: str) -> None:
    text, chance = capture(name), random.Random(name)
    whole = list(Screen().feed(text))
    screen, lines = Screen(), list[str]()
    while text:
        size = chance.randint(1, 50)
        lines += screen.feed(text[:size])
        text = text[size:]
    assert lines == whole


def test_a_line_that_stands_counts_when_nothing_follows() -> None:
    output = Output(reading_of("auto", ""))
    feed = output.channel()
    feed("progress: 1/1")
    assert output.progress() is None, "it may go on"
    feed("0")
    assert output.progress() is None
    assert output.progress() == Progress(0.1)
    feed("0 tables\n")
    assert output.progress() == Progress(0.01, "tables")


def test_two_pipes_do_not_write_over_each_other() -> None:
    output = Output(reading_of("auto", ""))
    out, err = output.channel(), output.channel()
    err("\rprogress: 4")
    out("lines of data\n")
    err("0%")
    out("and more\n")
    assert output.progress(final=True) == Progress(0.4)


@pytest.mark.parametrize("end", ["\n", "\r"])
def test_of_a_flood_the_end_is_read(end: str) -> None:
    output = Output(reading_of("auto", ""))
    feed = output.channel()
    for number in range(100_000):
        feed(f"progress: {number}/100000{end}")
    assert output.progress() == Progress(1.0)


@pytest.mark.parametrize(
    "text",
    [
        *("x\b", "\n1/3", "x" * 999 + "\b1", "\x1b[", "\x1b[1", "\x1b]", "1:", "40% ", "\x1b[9C\b"),
        *("x|", "━", "#", "[", "progress: ", " ETA s", "Transferred: ", "\r12%", "((((", "a::"),
    ],
)
def test_no_text_takes_long(text: str) -> None:
    """A hundred times as long as it takes, where it is in proportion; not as a square would."""
    output = Output(reading_of("auto", ""))
    output.channel()(text * (30_000 // len(text)))
    begun = time.thread_time()
    output.progress(final=True)
    assert time.thread_time() - begun < 10
