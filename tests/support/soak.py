"""How long the tests run that do the same again and again: a little, or much in `make soak`.

HOURGLASS_SOAK=1 is much, HOURGLASS_SOAK_SECONDS the time that each such test then has at most, and
HOURGLASS_SEED repeats the random choices of a run that failed.
"""

import os
import random
import time
from collections.abc import Iterator

SOAK = os.environ.get("HOURGLASS_SOAK") == "1"
SECONDS = float(os.environ.get("HOURGLASS_SOAK_SECONDS") or 1800)
SEED = os.environ.get("HOURGLASS_SEED") or (str(random.SystemRandom().random()) if SOAK else "0")


def rounds(few: int, many: int) -> Iterator[int]:
    """Count rounds: few, or in `make soak` many while there is time, and no less than the few."""
    begun = time.monotonic()
    for number in range(many if SOAK else few):
        if number >= few and time.monotonic() - begun > SECONDS:
            return
        yield number
