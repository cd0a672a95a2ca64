"""Which frames of clients may be, and how many are counted, however they are read."""

import random
import struct
from collections.abc import Iterator

import pytest
from aiohttp import WSMsgType

from server.transport.inbound_frames import LARGE_FRAGMENT, BadFrame, Frames, answer_to_close
from tests.support.wire import masked

SIZES = [0, 1, 125, 126, 127, LARGE_FRAGMENT - 1, LARGE_FRAGMENT, 65_535, 65_536, 70_000]


def pieces(data: bytes, order: random.Random, most: int) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        end = start + order.randint(1, most)
        yield data[start:end]
        start = end


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 3, 100, 16_384, 1_000_000])
def test_every_fragment_is_counted_once_however_it_is_read(most: int) -> None:
    order = random.Random(most)
    data, number = b"", 0
    for _ in range(5 if most == 1 else 60):
        size, fin = order.choice(SIZES), order.random() < 0.7
        data += masked(order.choice([0, 1, 2, 8, 9, 10]), bytes(size), fin=fin)
        number += not fin and size < LARGE_FRAGMENT
    frames = Frames()
    assert sum(map(frames.count, pieces(data, order, most))) == number


@pytest.mark.parametrize(
    "bad",
    [
        b"\x81\x00",
        b"\x81\x05hello",
        b"\x81\x7e\x00\xff" + bytes(255),
        b"\x81\xfe\x00\x7d" + bytes(4 + 125),
        b"\x81\xff" + struct.pack("!Q", 65_535),
        b"\x89\x00",
    ],
    ids=range(6),
)
@pytest.mark.parametrize("before", [0, 1, 50])
@pytest.mark.parametrize("most", [1, 7, 1000])
def test_a_frame_that_may_not_be_is_told_with_its_place(bad: bytes, before: int, most: int) -> None:
    good = masked(WSMsgType.TEXT, b"good") * before
    fine, at = count_all(list(pieces(good + bad, random.Random(before), most)))
    assert len(good) <= fine + at < len(good) + 10
    if most == 1000:
        assert fine + at == len(good)


def count_all(read: list[bytes]) -> tuple[int, int]:
    """How many bytes were read without a fault, and where it is in what was read next."""
    frames, fine = Frames(), 0
    for piece in read:
        try:
            frames.count(piece)
        except BadFrame as fault:
            return fine, fault.at
        fine += len(piece)
    raise AssertionError("no frame was at fault")


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (0, None), (1000, 1000), (1001, 1001), (1003, 1003), (1004, 1002), (1005, 1002),
        (1006, 1002), (1012, 1012), (1015, 1002), (3000, 3000), (4999, 4999),
        (5000, 1002), (65_535, 1002),
    ],
)  # fmt: skip
def test_a_close_code_is_echoed_where_it_may_be_sent(code: int, answer: int | None) -> None:
    assert answer_to_close(code) == (b"" if answer is None else struct.pack("!H", answer))
