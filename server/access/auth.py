"""Who a client is, and what it may do.

Without a secret everyone is an operator of every room, under the name that they give. With one,
a token says who they are: a JWT signed with HS256, whose claims are `sub` (the name), `role`
(`viewer` or `operator`), `rooms` (names or patterns such as `ops-*`), `exp` and `nbf`. All others
are ignored, and so is every header but those that say how to read the token.
"""

import json
import math
import re
from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from typing import Any, Generic, TypeVar

import jwt
from msgspec import Struct

from server.contract.text import is_name
from server.errors import Forbidden, Unauthorized

Key = TypeVar("Key", bound=Hashable)

ANONYMOUS = "anonymous"
ROLES = ("viewer", "operator")
MOST_SUB = 64
MOST_PATTERNS = 100
WATCHING = ("status", "join", "leave", "history", "rooms")
"""What a viewer may do."""
EVERYWHERE = ("*",)
PATTERN = re.compile(r"[A-Za-z0-9._*-]{1,64}")
"""A room's name in which each `*` stands for any characters, or none."""


class Identity(Struct, frozen=True):
    """The name that a client goes by, its role, and patterns of the rooms that it may use."""

    name: str
    role: str = "operator"
    rooms: tuple[str, ...] = EVERYWHERE
    expires_at: float | None = None
    """When its token runs out, in Unix time; None where no token is needed."""

    def opens(self, room: str) -> bool:
        """Whether this client may use a room."""
        return opens(self.rooms, room)

    def check(self, command: str, room: str) -> None:
        """Raises `Forbidden` when this client may not give a command in a room."""
        if self.rooms != EVERYWHERE and not self.opens(room):
            raise Forbidden(f"the token of {self.name} does not open room {room}")
        if self.role != "operator" and command not in WATCHING:
            raise Forbidden(f"{command} requires the role operator: {self.name} is a {self.role}")

    @property
    def proven(self) -> bool:
        """Whether a token says who this is: a name that anyone may give proves nothing."""
        return self.expires_at is not None

    def expired(self, now: float) -> bool:
        """Whether the token has run out at `now`."""
        return self.expires_at is not None and self.expires_at <= now


class Signed(jwt.PyJWS):
    """What is signed, whichever key its header names: the secrets are tried one by one."""

    def _validate_kid(self, kid: Any) -> None:
        pass


class Authenticator:
    """Turns a token, or a name where no tokens are needed, into an `Identity`."""

    def __init__(
        self, secrets: tuple[str, ...], max_token: int, leeway: float, now: Callable[[], float]
    ) -> None:
        """A token may be signed with any of the `secrets`; without one no tokens are needed.

        `max_token` is in bytes, 0 for no bound; a token is taken `leeway` seconds before its `nbf`;
        `now` gives Unix time.
        """
        self._secrets = secrets
        self._max_token = max_token
        self._leeway = leeway
        self._now = now
        self._signed = Signed(algorithms=["HS256"])

    def identify(self, token: Any, name: str | None) -> Identity:
        """Who this is. Raises `Unauthorized` where the token that is needed is not valid."""
        if not self._secrets:
            return Identity(name or ANONYMOUS)
        if not isinstance(token, str) or not token:
            raise Unauthorized("token required")
        if self._max_token and len(token) > self._max_token:
            raise Unauthorized(f"token too long (MAX_TOKEN={self._max_token} bytes)")
        claims = self._claims(token)
        identity = _identity(claims)
        now = self._now()
        if identity.expired(now):
            raise expired()
        if now + self._leeway < _valid_from(claims):
            raise Unauthorized("token not valid yet (nbf): check the clock of whoever issued it")
        return identity

    def _claims(self, token: str) -> dict[str, Any]:
        """What a token says that one of the secrets has signed; null says nothing."""
        for secret in self._secrets:
            try:
                claims = json.loads(self._signed.decode(token, secret, algorithms=["HS256"]))
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, ValueError, RecursionError):  # A surrogate is a ValueError.
                break
            if isinstance(claims, dict):
                return {name: value for name, value in claims.items() if value is not None}
        raise Unauthorized("invalid token: it must be signed (HS256) with the server's AUTH_SECRET")


def issue(secret: str, name: str, role: str, rooms: Iterable[str], expires_at: float) -> str:
    """A token for `name`. Raises `Unauthorized` when no server would take it."""
    claims = {"sub": name, "role": role, "rooms": list(rooms), "exp": int(expires_at)}
    _identity(claims)
    return jwt.encode(claims, secret, algorithm="HS256")


class Expiries(Generic[Key]):
    """When the tokens of many connections run out: it is asked often, and seldom one has."""

    def __init__(self) -> None:
        self._times: dict[Key, float] = {}
        # None is earlier.
        self._soonest = math.inf

    def add(self, key: Key, identity: Identity) -> None:
        """A connection is there; one without a token stays."""
        if identity.expires_at is not None:
            self._times[key] = identity.expires_at
            self._soonest = min(self._soonest, identity.expires_at)

    def discard(self, key: Key) -> None:
        """A connection is gone."""
        self._times.pop(key, None)

    def take(self, now: float) -> list[Key]:
        """The connections whose tokens have run out at `now`, each of them once."""
        if now < self._soonest:
            return []
        found = [key for key, at in self._times.items() if at <= now]
        for key in found:
            del self._times[key]
        self._soonest = min(self._times.values(), default=math.inf)
        return found


def expired() -> Unauthorized:
    """What is said of a token that has run out."""
    return Unauthorized("token expired (exp)")


@lru_cache(4096)
def opens(patterns: tuple[str, ...], room: str) -> bool:
    """Whether a room's name fits one of the patterns."""
    return any(_fits(pattern, room) for pattern in patterns)


def _fits(pattern: str, room: str) -> bool:
    """Whether a name fits a pattern, in a time that is bounded by the product of their lengths."""
    first, *parts = pattern.split("*")
    if not parts:
        return pattern == room
    *middle, last = parts
    if len(room) < len(first) + len(last) or not room.startswith(first) or not room.endswith(last):
        return False
    place, end = len(first), len(room) - len(last)
    for part in middle:
        place = room.find(part, place, end)
        if place < 0:
            return False
        place += len(part)
    return True


def _identity(claims: dict[str, Any]) -> Identity:
    """The client that the claims of a token describe. Raises `Unauthorized`."""
    name, role, rooms = claims.get("sub"), claims.get("role", "viewer"), claims.get("rooms", [])
    if not isinstance(name, str) or not is_name(name, MOST_SUB):
        raise Unauthorized(
            f"the token's sub must be 1 to {MOST_SUB} characters without control or invisible ones"
        )
    if role not in ROLES:
        raise Unauthorized(f"the token's role must be {' or '.join(ROLES)}")
    if not isinstance(rooms, list) or len(rooms) > MOST_PATTERNS:
        raise Unauthorized(f"the token's rooms must be an array of at most {MOST_PATTERNS}")
    if not all(isinstance(room, str) and PATTERN.fullmatch(room) for room in rooms):
        raise Unauthorized("the token's rooms must be names of rooms, in which * stands for any")
    return Identity(name, role, tuple(rooms), _instant(claims, "exp"))


def _valid_from(claims: dict[str, Any]) -> float:
    """When a token begins to be valid; one that does not say so was always."""
    return _instant(claims, "nbf") if "nbf" in claims else 0


def _instant(claims: dict[str, Any], name: str) -> float:
    """The Unix time in a claim, RFC 7519's NumericDate. Raises `Unauthorized`."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise Unauthorized(f"the token's {name} must be Unix time in seconds")
    return float(value)
