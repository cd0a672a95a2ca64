"""Hourglass: everything that is running, live for everyone, and never past its time."""

__version__ = "1.0.0"
