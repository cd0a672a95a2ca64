"""Segments: what a commit adds to the log of a room, as one row of the file."""

from collections.abc import Sequence

import msgspec

from server.store.embedded.batch import LogRow

SEGMENT_SIZE = 256
"""Entries of the log that one row holds at most, so that to read one is not to read many."""

encode_segment = msgspec.msgpack.Encoder().encode
decode_segment = msgspec.msgpack.Decoder(list[tuple[str, str, bytes]]).decode


def segments(log: Sequence[LogRow]) -> list[tuple[str, int, int, bytes]]:
    """The rows that hold entries of the log: those of each room together, in their order."""
    rooms: dict[str, list[LogRow]] = {}
    for row in log:
        rooms.setdefault(row[0], []).append(row)
    found = []
    for room, rows in rooms.items():
        for start in range(0, len(rows), SEGMENT_SIZE):
            part = rows[start : start + SEGMENT_SIZE]
            entries = encode_segment([row[2:] for row in part])
            found.append((room, part[0][1], part[-1][1], entries))
    return found


def segment(run: str, name: str, body: bytes) -> bytes:
    """The segment of one entry, for SQL."""
    return encode_segment([(run, name, body)])
