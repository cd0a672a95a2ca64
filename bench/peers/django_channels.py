"""The service on Django Channels and channels-redis, with plain JSON messages, as an ASGI app."""

import asyncio
import os
import time
from collections import deque
from uuid import uuid4

import django
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path

ROOM = "main"
EPOCH = uuid4().hex[:16]

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [("127.0.0.1", int(os.environ["REDIS_PORT"]))]},
        }
    },
)
django.setup()

running = {}
ended = deque(maxlen=50)
timeouts = {}
seq = 0


class Dashboard(AsyncJsonWebsocketConsumer):
    async def connect(self):
        await self.accept()
        if b"rooms=" not in self.scope["query_string"]:
            await self.channel_layer.group_add(ROOM, self.channel_name)
            snapshot = {
                "event": "snapshot",
                "room": ROOM,
                "epoch": EPOCH,
                "seq": seq,
                "now": time.time(),
                "running": list(running.values()),
                "ended": list(ended),
            }
            await self.send_json(snapshot)

    async def disconnect(self, code):
        await self.channel_layer.group_discard(ROOM, self.channel_name)

    async def receive_json(self, content):
        command = {"request": request, "kill": kill}[content["route"]]
        await self.send_json({"id": content["id"], **await command(content)})

    async def job_event(self, message):
        await self.send_json(message["payload"])


async def request(data):
    connid, seconds = data["connid"], float(data["time"])
    if connid in running:
        return {"ok": False, "error": {"code": "conflict"}, "job": running[connid]}
    now = time.time()
    job = running[connid] = {
        "connid": connid,
        "run": uuid4().hex[:24],
        "room": ROOM,
        "state": "running",
        "time": seconds,
        "started_at": now,
        "deadline": now + seconds,
        "by": "anonymous",
        "note": data.get("note"),
        "progress": None,
        "lease": None,
    }
    timeouts[connid] = asyncio.create_task(time_out(connid, seconds))
    await tell("started", now, {"job": job})
    return {"ok": True, "result": "started", "room": ROOM, "epoch": EPOCH, "seq": seq, "job": job}


async def kill(data):
    job = running.pop(data["connid"], None)
    if job is None:
        return {"ok": False, "error": {"code": "not_running"}}
    timeouts.pop(job["connid"]).cancel()
    how = {"by": "anonymous", "via": "websocket", "reason": data.get("reason")}
    await end(job, "killed", how)
    return {"ok": True, "result": "killed", "room": ROOM, "epoch": EPOCH, "seq": seq, "job": job}


async def time_out(connid, seconds):
    await asyncio.sleep(seconds)
    del timeouts[connid]
    await end(running.pop(connid), "finished", {"outcome": "elapsed", "result": None})


async def end(job, state, how):
    now = time.time()
    job.update(how, state=state, started_by=job["by"], ended_at=now)
    ended.append(job)
    await tell(state, now, {"connid": job["connid"], "run": job["run"], **how})


async def tell(event, at, fields):
    global seq
    seq += 1
    payload = {"event": event, "room": ROOM, "seq": seq, "at": at, **fields}
    await get_channel_layer().group_send(ROOM, {"type": "job.event", "payload": payload})


app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("ws", Dashboard.as_asgi())]),
    }
)
