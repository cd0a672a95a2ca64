"""Durations as people write them."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(told: "str | float | timedelta") -> float:
    """A duration in seconds: 90, "90", "1.5", "10m", "1h30m". Raises `ValueError`."""
    if not isinstance(told, (str, int, float)):
        return told.total_seconds()
    if isinstance(told, (int, float)):
        return float(told)
    if re.fullmatch(r"\d+(\.\d+)?", told):
        return float(told)
    if not re.fullmatch(r"(\d+(\.\d+)?[smhd])+", told):
        raise ValueError(f"{told!r} must be seconds, or like 10m, 2h or 1h30m")
    *parts, _ = re.split(r"([smhd])", told)
    return sum(float(n) * UNITS[unit] for n, unit in zip(parts[::2], parts[1::2], strict=True))
