"""What `python -m hourglass` runs, and the single file, whatever Python it is given."""

import os
import sys


def start() -> int:
    """Run the command line where it can run; the exit code."""
    if sys.version_info < (3, 11):  # The single file may be given any.
        sys.exit("hourglass needs Python 3.11 or newer")
    if os.name != "posix":
        sys.exit("hourglass needs Linux or macOS: there is none for Windows, but for WSL")
    from hourglass.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(start())
