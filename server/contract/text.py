"""Which characters a name may have: none that cannot be seen, or that moves what is around it."""

import re

CONTROLS = "\x00-\x1f\x7f-\x9f\u2028\u2029"
"""Unicode's classes Cc, Zl and Zp: they begin lines, or drive a terminal."""
SURROGATES = "\ud800-\udfff"
"""Halves of a character (Cs), which no encoding can hold."""
FORMATS = (
    "\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
"""Unicode's class Cf, as of version 16: bidirectional and zero-width controls, and their like. By
hand, as each Python knows another version of Unicode."""

NAME = re.compile(f"[^{CONTROLS}{SURROGATES}{FORMATS}]+")
"""What a name may be made of, whatever its length."""
HIDDEN = re.compile(f"[{CONTROLS}{FORMATS}]")
"""A character that must not be shown as it is."""


def is_name(text: str, most: int) -> bool:
    """Whether a text may be a name of 1 to `most` characters."""
    if not 0 < len(text) <= most:
        return False
    # All that is printable is right, and told sooner.
    return text.isprintable() or NAME.fullmatch(text) is not None
