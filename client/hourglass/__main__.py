"""What `python -m hourglass` runs, and the single file, whatever Python it is given."""

import os
import sys

if sys.version_info < (3, 11):  # The single file may be given any.
    sys.exit("hourglass needs Python 3.11 or newer")
if os.name != "posix":
    sys.exit("hourglass needs Linux or macOS")

from hourglass.cli import main

sys.exit(main())
