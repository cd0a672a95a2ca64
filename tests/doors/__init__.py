"""The ways in: what is let in, refused and answered."""
