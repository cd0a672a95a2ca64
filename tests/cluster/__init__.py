"""Many servers on one Redis."""
