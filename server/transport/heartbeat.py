"""The pings of an Engine.IO server's clients, with one timer for all."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from engineio import AsyncServer
from engineio.async_socket import AsyncSocket
from engineio.packet import PING, Packet


class Heartbeat:
    """The pings of all clients and their timeouts, of WebSockets and of long polling alike.

    All intervals are the same, so what is scheduled later is due later: two queues and one timer.
    """

    def __init__(self, eio: AsyncServer, on_silent: Callable[[AsyncSocket], None]) -> None:
        """`on_silent` is told whose ping was not answered in time, and who is closed already."""
        self._eio = eio
        self._on_silent = on_silent
        self._pings: deque[tuple[float, str]] = deque()
        # With the `last_ping` that must have been answered by then.
        self._timeouts: deque[tuple[float, str, float]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def schedule(self, socket: AsyncSocket) -> None:
        """Ping a client one interval from now."""
        now = asyncio.get_running_loop().time()
        self._pings.append((now + self._eio.ping_interval, socket.sid))
        self._set_timer()

    def answered(self, socket: AsyncSocket) -> bool:
        """A client has answered its ping; false where it had none to answer."""
        if not socket.last_ping:
            return False
        socket.last_ping = None
        self.schedule(socket)
        return True

    def wait_on(self, socket: AsyncSocket) -> None:
        """Give a client once more the time to answer the ping that it was sent."""
        due = asyncio.get_running_loop().time() + self._eio.ping_timeout
        self._timeouts.append((due, socket.sid, socket.last_ping))
        self._set_timer()

    def stop(self) -> None:
        """Ping nobody any more."""
        self._pings.clear()
        self._timeouts.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        heads = [queue[0][0] for queue in (self._pings, self._timeouts) if queue]
        if not heads:
            return
        due = min(heads)
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        sockets = self._eio.sockets
        while self._pings and self._pings[0][0] <= now:
            _, sid = self._pings.popleft()
            socket = sockets.get(sid)
            if socket is None or socket.closed:
                sockets.pop(sid, None)
                continue
            socket.last_ping = time.time()
            socket.queue.put_nowait(Packet(PING))
            self._timeouts.append((now + self._eio.ping_timeout, sid, socket.last_ping))
        while self._timeouts and self._timeouts[0][0] <= now:
            _, sid, last_ping = self._timeouts.popleft()
            socket = sockets.get(sid)
            if socket is not None and (socket.closed or socket.last_ping == last_ping):
                self._on_silent(socket)
        self._set_timer()
