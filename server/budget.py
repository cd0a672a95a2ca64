"""How much memory the process holds for others: one budget, of which each kind has a share.

Shares are fixed, so that those who fill one take nothing from the others.
"""

from server.config import Config


class Shares:
    """The bytes that each kind may take."""

    def __init__(self, config: Config) -> None:
        self.output = config.memory_budget // 8
