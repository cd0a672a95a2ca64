"""The same small service on other foundations, and the least that a fan-out can cost."""
