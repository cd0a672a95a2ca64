"""Functions that tests have a real worker of RQ execute."""

import time


def work(begun: str) -> str:
    with open(begun, "a") as file:
        file.write("begun\n")
    time.sleep(60)
    return "done"


def quick(value: int) -> int:
    return value * 2
