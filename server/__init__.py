"""Hourglass: everything that is running, live for everyone, and never past its time."""
