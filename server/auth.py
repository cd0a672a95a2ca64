"""Who a client is, and what it may do.

Without a secret everyone is an operator of every room, under the name that they give. With one,
a token says who they are: a JWT signed with HS256, whose claims are `sub` (the name), `role`
(`viewer` or `operator`), `rooms` (names or patterns such as `ops-*`) and `exp`.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import jwt

from server.errors import Forbidden, Unauthorized

ANONYMOUS = "anonymous"
ROLES = ("viewer", "operator")
MOST_SUB = 64
WATCHING = ("status", "join", "leave", "history", "rooms")
"""What a viewer may do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The name that a client goes by, its role, and patterns of the rooms that it may use."""

    name: str
    role: str = "operator"
    rooms: tuple[str, ...] = ("*",)

    def opens(self, room: str) -> bool:
        """Whether this client may use a room."""
        return any(fnmatchcase(room, pattern) for pattern in self.rooms)

    def check(self, command: str, room: str) -> None:
        """Raises `Forbidden` when this client may not give a command in a room."""
        if not self.opens(room):
            raise Forbidden(f"the token of {self.name} does not open the room {room}")
        if self.role != "operator" and command not in WATCHING:
            raise Forbidden(f"{self.name} may watch, but {command} needs the role operator")


class Authenticator:
    """Turns a token, or a name where no tokens are needed, into an `Identity`."""

    def __init__(self, secret: str) -> None:
        """`secret` signs the tokens; empty when none are needed."""
        self._secret = secret

    def identify(self, token: Any, name: str | None) -> Identity:
        """Who this is. Raises `Unauthorized` where the token that is needed is not valid."""
        if not self._secret:
            return Identity(name or ANONYMOUS)
        if not isinstance(token, str) or not token:
            raise Unauthorized("a token is needed")
        try:
            claims = jwt.decode(
                token, self._secret, algorithms=["HS256"], options={"require": ["sub", "exp"]}
            )
        except jwt.ExpiredSignatureError:
            raise Unauthorized("the token has expired") from None
        except jwt.InvalidTokenError:
            raise Unauthorized("the token is not valid") from None
        role, rooms = claims.get("role", "viewer"), claims.get("rooms", [])
        if role not in ROLES or not isinstance(rooms, list):
            raise Unauthorized("the token's role or rooms are not valid")
        if not 0 < len(claims["sub"]) <= MOST_SUB or not claims["sub"].isprintable():
            raise Unauthorized(f"the token's sub must be 1 to {MOST_SUB} printable characters")
        return Identity(claims["sub"], role, tuple(room for room in rooms if isinstance(room, str)))
