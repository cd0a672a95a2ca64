import asyncio
import os
from typing import Any

import socketio

URL = os.environ.get("HOURGLASS_URL", "http://127.0.0.1:8000")
TOKEN = os.environ.get("HOURGLASS_TOKEN")
ROOM = "example-python"


class Refused(Exception):
    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.code = error["code"]


async def main() -> None:
    # A snapshot of many jobs is longer than the 4 MiB that aiohttp takes unless it is told.
    client = socketio.AsyncClient(websocket_extra_options={"max_msg_size": 0})
    events: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()

    @client.on("*")
    async def on_event(name: str, event: dict[str, Any]) -> None:
        events.put_nowait((name, event))

    @client.on("connect_error")
    async def on_connect_error(why: dict[str, Any] | str) -> None:
        # The exception that `connect` raises does not say it.
        print("not connected:", why["message"] if isinstance(why, dict) else why)

    async def command(name: str, **fields: Any) -> dict[str, Any]:
        """Give a command; its answer."""
        answer = await client.call(name, {"room": ROOM, **fields})
        if not answer["ok"]:
            raise Refused(answer["error"])
        return answer

    async def heard(name: str) -> dict[str, Any]:
        """The next event of this name."""
        while True:
            kind, event = await events.get()
            if kind == name:
                return event

    auth = {"token": TOKEN, "name": "python", "rooms": []}
    await client.connect(URL, auth=auth, transports=["websocket"])
    await command("join")
    print("joined")

    await command("request", connid="backup", time=60)
    print("started", (await heard("started"))["job"]["connid"])

    try:
        await command("request", connid="backup", time=60)
    except Refused as error:
        print("refused:", error.code)

    await command("kill", connid="backup", reason="enough")
    print("killed", (await heard("killed"))["connid"])

    await command("request", connid="report", time=1)
    event = await heard("finished")
    print(f"finished {event['connid']}: {event['outcome']}")

    status = await command("status")
    print("running:", len(status["jobs"]))
    await client.disconnect()


asyncio.run(main())
