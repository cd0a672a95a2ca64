"""Tokens for the tests: good ones, and those that no server may take."""

import base64
import json
from typing import Any

import jwt

SECRET = "a secret of the tests that is long enough"
LATER = 4_000_000_000
CLAIMS: dict[str, Any] = {"sub": "ana", "role": "operator", "rooms": ["*"], "exp": LATER}


def token(secret: str = SECRET, **claims: Any) -> str:
    """A good token of ana, an operator of every room, but for these claims; None leaves one out."""
    everything = {key: value for key, value in {**CLAIMS, **claims}.items() if value is not None}
    return jwt.encode(everything, secret, algorithm="HS256")


def forged() -> str:
    """A viewer's token whose claims were changed after it was signed."""
    head, _, signature = token(role="viewer").split(".")
    return ".".join((head, part(CLAIMS), signature))


def unsigned(alg: str = "none") -> str:
    """A token that needs no signature if its own header is believed."""
    return f"{part({'alg': alg, 'typ': 'JWT'})}.{part(CLAIMS)}."


def part(value: Any) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def nested() -> str:
    """A token whose header is nested too deeply to be read."""
    return base64.urlsafe_b64encode(b"[" * 2000).decode() + ".e30.eA"


BAD: dict[str, str] = {
    "none": "",
    "nonsense": "nonsense",
    "dots": "..",
    "not ascii": "é.é.é",
    "forged": forged(),
    "expired": token(exp=1),
    "alg none": unsigned(),
    "alg None": unsigned("None"),
    "no alg": f"{part({})}.{part(CLAIMS)}.",
    "wrong secret": token("x" * 40),
    "wrong algorithm": jwt.encode(CLAIMS, SECRET * 2, algorithm="HS512"),
    "oversized": token(note="x" * 3500),
    "nested": nested(),
    "no sub": token(sub=None),
    "no exp": token(exp=None),
    "endless exp": token(exp=float("inf")),
    "exp of text": token(exp="4000000000"),
    "exp of true": token(exp=True),
    "not yet": token(nbf=LATER),
    "nbf of text": token(nbf="1"),
    "nbf of true": token(nbf=True),
    "endless nbf": token(nbf=float("inf")),
    "critical header": jwt.encode(CLAIMS, SECRET, headers={"crit": ["new"], "new": 1}),
    "no object": jwt.PyJWS().encode(b"[]", SECRET, algorithm="HS256"),
    "no JSON": jwt.PyJWS().encode(b"sub", SECRET, algorithm="HS256"),
    "nested claims": jwt.PyJWS().encode(b"[" * 2000, SECRET, algorithm="HS256"),
    "sub of a number": token(sub=1),
    "name of two directions": token(sub="ana\u202e"),
    "name of a zero-width space": token(sub="a\u200bna"),
    "empty name": token(sub=""),
    "name of lines": token(sub="a\nb"),
    "name of half a character": token(sub="\ud800"),
    "long name": token(sub="x" * 65),
    "unknown role": token(role="admin"),
    "role of a list": token(role=["operator"]),
    "rooms of text": token(rooms="*"),
    "rooms of numbers": token(rooms=[1]),
    "room that cannot be": token(rooms=["a b"]),
    "range of rooms": token(rooms=["ops-[1-9]"]),
}
"""Tokens that must not be let in, by what is wrong with them."""
