"""The service on stock python-socketio and aiohttp, as their documentation shows it."""

import asyncio
import os
import sys
import time
from collections import deque
from uuid import uuid4

import socketio
from aiohttp import web

ROOM = "main"
EPOCH = uuid4().hex[:16]

# With several servers they tell each other through Redis.
url = os.environ.get("REDIS_URL")
manager = socketio.AsyncRedisManager(url) if url else None
sio = socketio.AsyncServer(async_mode="aiohttp", client_manager=manager)
app = web.Application()
sio.attach(app)

running = {}
ended = deque(maxlen=50)
timeouts = {}
seq = 0


@sio.event
async def connect(sid, environ, auth):
    if ROOM in (auth or {}).get("rooms", [ROOM]):
        await sio.enter_room(sid, ROOM)
        snapshot = {
            "room": ROOM,
            "epoch": EPOCH,
            "seq": seq,
            "now": time.time(),
            "running": list(running.values()),
            "ended": list(ended),
        }
        await sio.emit("snapshot", snapshot, to=sid)


@sio.event
async def request(sid, data):
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


@sio.event
async def kill(sid, data):
    job = running.pop(data["connid"], None)
    if job is None:
        return {"ok": False, "error": {"code": "not_running"}}
    timeouts.pop(job["connid"]).cancel()
    how = {"by": "anonymous", "via": "socket", "reason": data.get("reason")}
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
    await sio.emit(event, {"room": ROOM, "seq": seq, "at": at, **fields}, room=ROOM)


if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
