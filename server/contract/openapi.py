"""The contract of the HTTP door: its routes, and the OpenAPI document that describes them.

The document is made from the structs that commands are decoded into, from what the check of each
field says, and from the statuses of the error codes.
"""

from dataclasses import dataclass
from typing import Any, get_args

import msgspec
from msgspec import NODEFAULT, UNSET, Raw
from msgspec.structs import FieldInfo, fields

from server import __version__
from server.config import Config
from server.contract.messages import (
    COMMANDS,
    Answer,
    EndedJob,
    Job,
    Printed,
    Problem,
    Refusal,
    RoomCount,
    Stoppable,
)
from server.contract.validation import MOST_HISTORY, MOST_SEQ, Checker

STATUS = {
    "invalid": 400,
    "unknown_route": 404,
    "unauthorized": 401,
    "forbidden": 403,
    "not_running": 404,
    "conflict": 409,
    "rate_limited": 429,
    "too_many": 429,
    "unavailable": 503,
    "internal": 500,
}
"""The HTTP status of each error code."""
TOO_LARGE = 413
"""The status of a message that is too long, which is `invalid` elsewhere."""


@dataclass(frozen=True, slots=True)
class Route:
    """A path of the HTTP door and the command that it stands for."""

    method: str
    path: str
    command: str
    summary: str


JOB = "/api/jobs/{connid}"
REF = "#/components/schemas/{name}"
"""How a schema is named in another."""
ROUTES = (
    Route("GET", "/api/jobs", "status", "List what is running, or what happened since"),
    Route("POST", "/api/jobs", "request", "Start a job"),
    Route("GET", JOB, "status", "Look at one running job"),
    Route("DELETE", JOB, "kill", "Kill a running job"),
    Route("POST", f"{JOB}/extend", "extend", "Give a running job more time"),
    Route(
        "POST",
        f"{JOB}/finish",
        "finish",
        "End a job of one's own, or say how one that was lost truly ended",
    ),
    Route("POST", f"{JOB}/progress", "progress", "Report of a job of one's own"),
    Route("POST", f"{JOB}/stopped", "stopped", "Say that the work of an ended job has stopped"),
    Route("POST", f"{JOB}/output", "output", "Show what a job of one's own prints"),
    Route("GET", "/api/history", "history", "List ended jobs, the newest first"),
    Route("GET", "/api/rooms", "rooms", "List the rooms in which jobs are running"),
)


def document(config: Config, checker: Checker) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a server with these settings."""
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = operation(route, config, checker)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hourglass",
            "version": __version__,
            "description": "Shows everything that is running, and lets anyone stop it.",
        },
        # Relative to where this document was fetched from, whatever proxies are in between.
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": answers(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}] if config.secrets else [],
    }


def operation(route: Route, config: Config, checker: Checker) -> dict[str, Any]:
    """What the document says of one route."""
    known = schemas(config)
    in_path, in_query, body = [], [], {}
    required = []
    for field in fields(COMMANDS[route.command]):
        if field.name == "route":
            continue
        schema = {**known[field.name], "description": checker.right(field.name)}
        if route.method == "POST" and f"{{{field.name}}}" not in route.path:
            body[field.name] = schema
            if needed(field):
                required.append(field.name)
            continue
        parameter = {"name": field.name, "schema": in_address(field.name, schema)}
        if f"{{{field.name}}}" in route.path:
            in_path.append({**parameter, "in": "path", "required": True})
        else:
            in_query.append({**parameter, "in": "query"})
    if not config.secrets:
        schema = {**known["name"], "description": checker.right("name")}
        in_query.append({"name": "name", "in": "query", "schema": schema})
    found: dict[str, Any] = {
        "operationId": f"{route.method.lower()}-{route.command}"
        + ("-one" if route.command == "status" and in_path else ""),
        "summary": route.summary,
        "parameters": in_path + in_query,
        "responses": responses(route),
    }
    if route.method == "POST":
        title = COMMANDS[route.command].__name__
        schema = {"title": title, "type": "object", "properties": body, "required": required}
        found["requestBody"] = {
            "required": bool(required),
            "content": {"application/json": {"schema": schema}},
        }
    return found


def needed(field: FieldInfo) -> bool:
    """Whether a message has to have a field."""
    return field.default is NODEFAULT and field.default_factory is NODEFAULT


def in_address(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field in an address: a text there is never null, and never a number."""
    if name == "since":
        return {
            "type": "string",
            "pattern": r"^[0-9A-Za-z]{1,64}:(0|[1-9]\d{0,14})$",
            "description": "EPOCH:SEQ",
        }
    if name == "connid":
        return {**NAMED, "description": schema["description"]}
    kind = schema["type"]
    return {**schema, "type": kind[0] if isinstance(kind, list) else kind}


LINE = r"^[^\x00-\x1f\x7f-\x9f]*$"
NAMED = {"type": "string", "minLength": 1, "maxLength": 128, "pattern": LINE}
"""The name of a job."""


def schemas(config: Config) -> dict[str, dict[str, Any]]:
    """The JSON Schema of each field of a command."""
    seconds = {"type": "number", "exclusiveMinimum": 0, "maximum": config.max_time}
    text = {"type": ["string", "null"], "maxLength": config.max_note}
    known: dict[str, dict[str, Any]] = {
        "connid": {"anyOf": [NAMED, {"type": "integer"}]},
        "time": seconds,
        "lease": {**seconds, "type": ["number", "null"]},
        "deadline": {"type": ["number", "null"], "minimum": 0, "maximum": MOST_SEQ},
        "room": {
            "type": ["string", "null"],
            "pattern": "^[A-Za-z0-9._-]{1,64}$",
            "default": "main",
        },
        "note": text,
        "reason": text,
        "text": {"type": "string"},
        "if_running": {**nullable(["reject", "keep", "replace"]), "default": "reject"},
        "stoppable": nullable(list(get_args(Stoppable))),
        "key": {"type": ["string", "null"], "minLength": 1, "maxLength": 64, "pattern": LINE},
        "outcome": {**nullable(["done", "failed"]), "default": "done"},
        "run": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": LINE},
        "done": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "exit": {"type": ["integer", "null"], "minimum": -(2**31), "maximum": 2**32 - 1},
        "result": {},
        "since": {
            "type": ["object", "null"],
            "properties": {
                "epoch": {"type": "string", "maxLength": 64},
                "seq": {"type": "integer", "minimum": 0, "maximum": MOST_SEQ},
            },
            "required": ["epoch", "seq"],
        },
        "before": {"type": "integer", "minimum": 1, "maximum": MOST_SEQ},
        "limit": {"type": "integer", "minimum": 1, "maximum": MOST_HISTORY, "default": 50},
        "name": {"type": "string", "maxLength": config.max_name, "pattern": LINE},
    }
    return {name: exact(schema) for name, schema in known.items()}


def nullable(values: list[str]) -> dict[str, Any]:
    """The schema of one of these texts, or null, which generators do not take in an enum."""
    return {"anyOf": [{"enum": values}, {"type": "null"}]}


WIDE = {"integer": "int64", "number": "double"}
"""The formats of numbers: without one generators take 32 bits, too few for an instant or a seq."""


def exact(schema: Any) -> Any:
    """A schema as generators of clients need it: numbers with their width, enums with a type."""
    if isinstance(schema, list):
        return [exact(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: exact(value) for key, value in schema.items()}
    if isinstance(schema.get("enum"), list):
        found["type"] = "string"
    kinds = schema.get("type")
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind in WIDE:
            found["format"] = WIDE[kind]
    return found


def responses(route: Route) -> dict[str, Any]:
    """What a route may answer."""
    found = {"200": response("What was asked for.", "Answer")}
    if route.command == "request":
        found["200"] = response("The job runs already, and was kept.", "Answer")
        found["201"] = response("The job has started.", "Answer")
    codes: dict[int, list[str]] = {TOO_LARGE: ["invalid"]}
    for code, status in STATUS.items():
        codes.setdefault(status, []).append(code)
    for status, those in sorted(codes.items()):
        found[str(status)] = response(f"Refused: {' or '.join(those)}.", "Refusal")
    return found


def response(description: str, schema: str) -> dict[str, Any]:
    """A response with JSON of a schema."""
    content = {"application/json": {"schema": {"$ref": REF.format(name=schema)}}}
    return {"description": description, "content": content}


def whole(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """A struct as it is on the wire: no field is left out that may be set, and made JSON is any."""
    shown: list[Any] = [
        (item.name, wire_type(item.type), *([UNSET] * (item.default is UNSET)))
        for item in fields(kind)
    ]
    about = {"__doc__": first_sentence(kind)}
    return msgspec.defstruct(kind.__name__, shown, namespace=about, kw_only=True)


def first_sentence(kind: type) -> str:
    """What a class is: the rest of its description is for those who work on it."""
    return (kind.__doc__ or "").partition("\n")[0]


def wire_type(kind: Any) -> Any:
    """The type of a field as msgspec can describe it."""
    if kind == list[EndedJob]:
        ended: Any = whole(EndedJob)
        return list[ended]
    return Any if kind is Raw else kind


EVENT = {
    "title": "Event",
    "type": "object",
    "description": "An event of the log, which names itself.",
    "properties": {"event": {"type": "string"}},
    "required": ["event"],
    "additionalProperties": True,
}


def answers() -> dict[str, Any]:
    """The JSON Schemas of what is answered."""
    _, found = msgspec.json.schema_components(
        [whole(Job), whole(EndedJob), whole(RoomCount), whole(Printed), Problem],
        ref_template=REF,
    )
    found["Job"]["properties"]["remaining"] = {"type": "number", "description": "only in a status"}
    job = {"anyOf": [{"$ref": REF.format(name=name)} for name in ("Job", "EndedJob")]}
    # msgspec has no schema for a union of structs without tags, nor for JSON that was made before.
    apart: dict[str, Any] = {
        "job": job,
        "jobs": {"type": "array", "items": job},
        "events": {"type": "array", "items": EVENT},
        "rooms": {"type": "array", "items": {"$ref": REF.format(name="RoomCount")}},
        "error": {"$ref": REF.format(name="Problem")},
        "output": {"$ref": REF.format(name="Printed")},
        "before": {"type": ["integer", "null"]},
        "ok": {"type": "boolean"},
        "result": {"type": "string"},
        "repeated": {"type": "boolean", "description": "only when true: it was asked before"},
        "room": {"type": "string"},
        "epoch": {"type": "string"},
        "seq": {"type": "integer"},
        "now": {"type": "number"},
    }
    for kind in (Answer, Refusal):
        found[kind.__name__] = {
            "title": kind.__name__,
            "type": "object",
            "description": first_sentence(kind),
            "properties": {field.name: apart[field.name] for field in fields(kind)},
            "required": [field.name for field in fields(kind) if needed(field)],
        }
    return {name: exact(schema) for name, schema in found.items()}
