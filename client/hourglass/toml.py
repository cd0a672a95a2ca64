"""Reading TOML, also where Python has no reader of it: texts under bare names, which is all that
`hourglass.toml` may have."""

import json
import re
import sys
from typing import Any

if sys.version_info >= (3, 11):
    from tomllib import loads as toml
else:

    def toml(text: str) -> dict[str, Any]:
        """What the text has. Raises `ValueError`."""
        found = {}
        for line in text.splitlines():
            if not re.fullmatch(r"\s*(#.*)?", line):
                pair = re.fullmatch(
                    r"""\s*([\w-]+)\s*=\s*("(?:[^"\\]|\\.)*"|'[^']*')\s*(#.*)?""", line
                )
                if pair is None:
                    raise ValueError(f'a line is not name = "text": {line}')
                name, value, _ = pair.groups()
                found[name] = value[1:-1] if value[0] == "'" else json.loads(value)
        return found


__all__ = ["toml"]
