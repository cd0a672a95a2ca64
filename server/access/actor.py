"""Who does something to a job."""

from msgspec import Struct

from server.contract.messages import Via


class Actor(Struct, frozen=True):
    """Who does something to a job, through which door and from which address."""

    name: str
    via: Via
    address: str | None = None
    proven: bool = False
    """Whether a token says who this is, so that jobs can be its own."""

    @property
    def owner(self) -> str | None:
        """Who must own the jobs that this actor reports of; None where names prove nothing."""
        return self.name if self.proven else None


SERVER = Actor("server", "server")
"""Who ends the jobs that are due."""
