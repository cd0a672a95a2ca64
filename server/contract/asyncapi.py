"""The AsyncAPI document: what goes over Socket.IO and plain WebSockets, both ways.

Like the OpenAPI document beside it, it is made from the structs of the protocol, from what the
check of each field says, and from the bounds in the settings.
"""

from typing import Any

import msgspec
from msgspec.structs import fields

from server import __version__
from server.config import Config
from server.contract.messages import (
    COMMANDS,
    LOG_EVENTS,
    Available,
    Closing,
    Command,
    Hello,
    Output,
    Presence,
    Progress,
    Snapshot,
)
from server.contract.openapi import REF, answers, exact, first_sentence, needed, schemas, whole
from server.contract.validation import Checker

EVENTS: dict[str, type[msgspec.Struct]] = {
    kind.name: kind
    for kind in (Snapshot, *LOG_EVENTS.values(), Progress, Output, Presence, Available, Closing)
}
"""What a client may hear, by name."""
DOES = {
    "request": "Starts a job",
    "kill": "Ends a running job",
    "extend": "Gives a running job more time",
    "status": "Lists what is running, or what happened since",
    "finish": "Ends a job of one's own, or says how one that was lost truly ended",
    "progress": "Reports how far a job of one's own is, and renews its lease",
    "output": "Shows what a job of one's own prints to those who watch it",
    "stopped": "Says that the work of a job of one's own, which was ended for it, has stopped",
    "join": "Hears a room from now on, or one job of it",
    "leave": "Hears a room no more, or one job of it",
    "history": "Lists ended jobs, the newest first",
    "rooms": "Lists the rooms in which jobs are running",
}
"""What each command does, in a few words."""
SOCKET = (
    "A message is the Socket.IO event of its name, with one object; answers are acknowledgements. A"
    " command may also be the event `message`, with its name in `route`."
)
PLAIN = "A message is a text frame with one object, which names itself in `route` or `event`."


def document(config: Config, checker: Checker) -> dict[str, Any]:
    """The AsyncAPI 3.0 document of a server with these settings."""
    messages = {
        **{f"command.{name}": command(kind, config, checker) for name, kind in COMMANDS.items()},
        **{f"event.{name}": event(name, kind) for name, kind in EVENTS.items()},
        **{f"answer.{name}": answer(name) for name in ("Answer", "Refusal")},
        "connect": connect(config, checker),
    }
    plain = {f"plain.{key}": plainly(key, item) for key, item in messages.items() if "." in key}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Hourglass",
            "version": __version__,
            "description": "Shows everything that is running, and lets anyone stop it.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "socket": channel("/socket.io/", SOCKET, messages),
            "plain": {
                **channel("/ws", PLAIN, plain),
                "bindings": {"ws": {"query": address(config, checker)}},
            },
        },
        "operations": {
            "connect": operation("socket", "receive", "connect"),
            **operations("socket", ""),
            **operations("plain", "plain."),
        },
        "components": {
            "schemas": {**answers(), **heard()},
            "messages": {**messages, **plain},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def command(kind: type[Command], config: Config, checker: Checker) -> dict[str, Any]:
    """The message that is a command."""
    known = schemas(config)
    properties = {
        field.name: {**known[field.name], "description": checker.right(field.name)}
        for field in fields(kind)
        if field.name != "route"
    }
    properties["route"] = {
        "type": "string",
        "enum": [kind.name],
        "description": "its name, once more",
    }
    required = [field.name for field in fields(kind) if needed(field)]
    payload = {
        "title": kind.__name__,
        "type": "object",
        "properties": properties,
        "required": required,
    }
    return {"name": kind.name, "summary": DOES[kind.name], "payload": payload}


def event(name: str, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The message that is an event."""
    return {
        "name": name,
        "summary": first_sentence(kind),
        "payload": {"$ref": REF.format(name=kind.__name__)},
    }


def answer(name: str) -> dict[str, Any]:
    """The message that is an answer, of one of two kinds."""
    return {"name": "reply", "payload": {"$ref": REF.format(name=name)}}


def connect(config: Config, checker: Checker) -> dict[str, Any]:
    """What Socket.IO's CONNECT carries as `auth`."""
    properties = hello(config, checker)
    summary = "Says who a client is, as Socket.IO's auth"
    return {
        "name": "connect",
        "summary": summary,
        "payload": {"title": "Hello", "type": ["object", "null"], "properties": properties},
    }


def hello(config: Config, checker: Checker) -> dict[str, Any]:
    """The JSON Schema of each thing that a client says of itself."""
    known = schemas(config)
    room = known["room"]["pattern"]
    names = {"type": "array", "items": {"type": "string", "pattern": room}}
    shown: dict[str, Any] = {
        "token": {"type": ["string", "null"]},
        "name": {**known["name"], "type": ["string", "null"]},
        "via": {"type": "string", "enum": ["cli"]},
        "rooms": {"anyOf": [names, {"type": ["string", "null"]}]},
        "since": {"type": ["object", "null"], "additionalProperties": known["since"]},
    }
    return {
        field.name: {**shown[field.name], "description": checker.right(field.name)}
        for field in fields(Hello)
    }


def address(config: Config, checker: Checker) -> dict[str, Any]:
    """The same, as the address of a plain WebSocket has it."""
    said = hello(config, checker)
    properties = {
        name: {"type": "string", "description": item["description"]} for name, item in said.items()
    }
    properties["since"]["description"] = "ROOM:EPOCH:SEQ, several with commas between"
    return {"type": "object", "properties": properties}


def plainly(key: str, message: dict[str, Any]) -> dict[str, Any]:
    """A message as a plain WebSocket has it: with its name, and with the `id` of its command."""
    part, _, _ = key.partition(".")
    id = {"id": {"type": ["string", "number"], "description": "comes back with the answer"}}
    name = {"const": message["name"]}
    more: dict[str, dict[str, Any]] = {
        "command": {"properties": {"route": name, **id}, "required": ["route"]},
        "event": {"properties": {"event": name}, "required": ["event"]},
        "answer": {"properties": id},
    }
    payload = message["payload"]
    title = payload.get("title") or payload["$ref"].rpartition("/")[2]
    return {**message, "payload": {"title": f"Plain{title}", "allOf": [payload, more[part]]}}


def channel(address: str, description: str, messages: dict[str, Any]) -> dict[str, Any]:
    """One way in, with all that goes over it."""
    shown = {key: {"$ref": f"#/components/messages/{key}"} for key in messages}
    return {"address": address, "description": description, "messages": shown}


def operations(channel: str, prefix: str) -> dict[str, Any]:
    """What the server takes and sends over a channel."""
    found = {}
    for name in COMMANDS:
        found[f"{prefix}{name}"] = {
            **operation(channel, "receive", f"{prefix}command.{name}"),
            "reply": {
                "channel": {"$ref": f"#/channels/{channel}"},
                "messages": [
                    at(channel, f"{prefix}answer.{kind}") for kind in ("Answer", "Refusal")
                ],
            },
        }
    for name in EVENTS:
        key = f"{prefix}event.{name}"
        found[f"{prefix}on-{name}"] = operation(channel, "send", key)
    return found


def operation(channel: str, action: str, message: str) -> dict[str, Any]:
    """One message that the server takes or sends."""
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [at(channel, message)],
    }


def at(channel: str, message: str) -> dict[str, str]:
    return {"$ref": f"#/channels/{channel}/messages/{message}"}


def heard() -> dict[str, Any]:
    """The JSON Schemas of the events; the jobs in them are those of the answers."""
    _, found = msgspec.json.schema_components(map(whole, EVENTS.values()), ref_template=REF)
    return {kind.__name__: exact(found[kind.__name__]) for kind in EVENTS.values()}
