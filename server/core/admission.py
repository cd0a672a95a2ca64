"""Admits clients: authenticates each, and then joins the rooms that it asks for."""

import logging

from server.access.auth import Authenticator
from server.access.rate_limits import Limits, TokenBucket
from server.contract.messages import Hello, Via
from server.core.replies import Caller, broken
from server.core.rooms import Rooms
from server.core.subscribers import Client
from server.counters import Counts
from server.errors import CommandError, Unauthorized

log = logging.getLogger(__name__)


class Admission:
    """Admits clients, through whichever door they come."""

    def __init__(
        self, authenticator: Authenticator, rooms: Rooms, limits: Limits, counts: Counts
    ) -> None:
        self._authenticator = authenticator
        self._rooms = rooms
        self._limits = limits
        self._refusals = counts.refusals

    def welcome(
        self, hello: Hello, via: Via, address: str, bucket: TokenBucket | None = None
    ) -> Caller:
        """Authenticate a client. Its hello may name a door in place of `via`.

        Its commands are counted by `bucket`, or by a new one.
        Raises `Unauthorized`, `Forbidden`, and `RateLimited` after too many failures from the
        address. A valid sign-in is never limited, so nobody can lock out their neighbours.
        """
        try:
            identity = self._authenticator.identify(hello.token, hello.name)
        except Unauthorized as error:
            self._refusals[error.code] += 1
            self._limits.failed(address)
            if self._limits.may_log():
                log.warning("sign-in from %s via %s failed: %s", address, via, error.message)
            raise
        try:
            for room in hello.rooms:
                identity.check("join", room)
        except CommandError as error:
            self._refusals[error.code] += 1
            raise
        bucket = bucket or self._limits.bucket(address)
        return Caller(identity, hello.via or via, bucket, address=address)

    def admit_at_once(self, client: Client, hello: Hello) -> bool:
        """`admit` a client without waiting; false where some room has to be read first."""
        ready = []
        for name in hello.rooms:
            since = hello.since.get(name)
            room = self._rooms.try_prepare(name, since)
            if room is None:
                return False
            ready.append((room, since))
        for room, since in ready:
            self._rooms.admit(client, room, since)
        return True

    async def admit(self, client: Client, hello: Hello) -> None:
        """Let a client into the rooms of its hello, once it is able to receive events.

        Raises `CommandError` and nothing else, as the client has to be told why it sees nothing.
        """
        try:
            for name in hello.rooms:
                since = hello.since.get(name)
                room = await self._rooms.prepare(name, since)
                self._rooms.admit(client, room, since)
        except CommandError:
            raise
        except Exception:
            log.exception("joining the rooms of a new client failed")
            raise broken() from None
