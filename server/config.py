"""Every setting, with its unit, its default and the environment variable that sets it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from server.addresses import canonical_origin, is_loopback

SWITCH = {"1": True, "yes": True, "true": True, "on": True}
SWITCH |= {"0": False, "no": False, "false": False, "off": False}

RENAMED = {"ROOM_KEEP": "ROOM_RETENTION", "OUTPUT_KEEP": "OUTPUT_RETENTION"}
"""Environment variables of older versions, with their present names. They still work."""


class ConfigError(Exception):
    """A setting has a value that cannot be used; the message names it and says what would do."""


def setting(
    default: Any, unit: str, help: str, *, least: float | None = None, most: float | None = None
) -> Any:
    """A field of `Config`; its environment variable is its name in capitals."""
    meta = {"unit": unit, "help": help, "least": least, "most": most}
    return field(default=default, metadata=meta)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one server. Build it by hand in tests, by `from_env` in a process."""

    host: str = setting("127.0.0.1", "address", "address to listen on")
    port: int = setting(8000, "port", "port to listen on; 0 picks a free one", least=0, most=65535)
    database: str = setting(
        "hourglass.db", "path", "file that stores the jobs; `:memory:` stores nothing on disk"
    )
    database_check: float = setting(
        0.5,
        "seconds",
        "interval of the checks that the file is in place and intact, and of the attempts to"
        " write after a write has failed",
        least=0.01,
    )
    database_timeout: float = setting(
        2,
        "seconds",
        "how long a write waits for another process that has the file locked, before it fails",
        least=0,
    )
    max_wal: int = setting(
        16_777_216,
        "bytes",
        "size to which the write-ahead log is truncated after it had to grow larger",
        least=0,
    )
    redis_url: str = setting(
        "",
        "address",
        "`redis://`, `rediss://` or `redis+sentinel://`: several servers share this Redis;"
        " empty stores in `DATABASE`",
    )
    redis_prefix: str = setting("hourglass", "text", "prefix of all keys in Redis")
    redis_tls_verify: bool = setting(
        True, "yes or no", "whether the certificate of a `rediss://` server is verified"
    )
    redis_timeout: float = setting(
        2,
        "seconds",
        "how long a command may wait for Redis before it is answered `unavailable`",
        least=0.05,
    )
    redis_heartbeat: float = setting(
        1, "seconds", "interval of the heartbeats that a server sends through Redis", least=0.01
    )
    redis_deaf: float = setting(
        3,
        "seconds",
        "how long a server may miss its own heartbeat before it reconnects, and those of"
        " another server before it considers that one dead",
        least=0.05,
    )
    redis_claim: float = setting(
        0.4,
        "seconds",
        "how long a server may take to end a job that is due before another one ends it",
        least=0.01,
    )
    redis_feed: int = setting(
        100_000,
        "events",
        "length of the feed: how many events a server may miss and still catch up",
        least=100,
    )
    redis_keep: float = setting(
        10, "seconds", "how long the board of a room is cached after it was last needed", least=0
    )
    history: int = setting(
        10_000,
        "events",
        "how many events of each room's log are retained, and with them the jobs that ended",
        least=1,
    )
    room_retention: float = setting(
        2_592_000,
        "seconds",
        "how long a room without running jobs and without clients is retained after its last"
        " event, before it is evicted; 0 for ever",
        least=0,
    )
    transports: str = setting(
        "",
        "names",
        "`websocket`, `polling` or both, separated by a comma; empty enables both, or"
        " `websocket` alone with `REDIS_URL`",
    )
    auth_secret: str = setting(
        "",
        "text",
        "secret that signs tokens (HS256), at least 32 bytes; of several, separated by commas,"
        " the first one signs and all are accepted",
    )
    token_leeway: float = setting(
        30, "seconds", "clock skew that is allowed for a token's `nbf`; its `exp` is exact", least=0
    )
    auth: str = setting(
        "", "mode", "`open` admits everyone without a token on any address, not only on loopback"
    )
    allowed_origins: str = setting(
        "",
        "origins",
        "origins besides the server's own whose pages may connect, separated by commas, such as"
        " `https://example.org`; `*` requires tokens",
    )
    bind_sessions: bool = setting(
        True,
        "yes or no",
        "whether a session of long polling is bound to the address that began it, or to the"
        " bearer token that it sends; `no` where clients change their addresses",
    )
    trusted_proxies: int = setting(
        0,
        "hops",
        "number of reverse proxies in front of the server; a client's address is what the"
        " outermost one appends to `X-Forwarded-For`",
        least=0,
        most=10,
    )
    metrics_token: str = setting(
        "",
        "text",
        "bearer token that `/metrics` requires; empty serves it to loopback only, and not to a"
        " request that a proxy forwards without an address",
    )
    log_format: str = setting(
        "", "format", "`json` or `text`; empty for text on a terminal and JSON elsewhere"
    )
    log_buffer: int = setting(
        4_194_304,
        "bytes",
        "buffer for log lines that are not yet written; when it is full, lines are dropped and"
        " counted",
        least=1024,
    )
    log_level: str = setting("INFO", "level", "`DEBUG`, `INFO`, `WARNING` or `ERROR`")

    max_time: float = setting(2_592_000, "seconds", "longest time limit of a job", least=0.001)
    max_running: int = setting(
        100_000, "jobs", "limit of running jobs in all rooms; 0 for no limit", least=0
    )
    max_running_room: int = setting(
        50_000, "jobs", "limit of running jobs in one room; 0 for no limit", least=0
    )
    max_rooms: int = setting(
        10_000,
        "rooms",
        "limit of rooms that have a log, until they are evicted after `ROOM_RETENTION`; 0 for"
        " no limit",
        least=0,
    )
    max_joined: int = setting(
        100, "rooms", "limit of rooms and jobs that one client joins", least=1
    )
    max_note: int = setting(500, "characters", "longest note or reason", least=0)
    max_name: int = setting(64, "characters", "longest name of a client", least=1)
    max_result: int = setting(4096, "bytes", "largest result of a job, as JSON", least=2)
    max_depth: int = setting(32, "levels", "deepest nesting of a result", least=1, most=200)
    max_message: int = setting(65_536, "bytes", "largest command", least=256)
    max_token: int = setting(4096, "bytes", "longest token; 0 for no limit", least=0)
    max_frame: int = setting(
        262_144,
        "bytes",
        "largest WebSocket frame or request body; a larger one closes its connection",
        least=1024,
    )
    max_pending: int = setting(
        10_000,
        "commands",
        "length of the write queue; commands beyond it are answered `unavailable`",
        least=1,
    )
    max_pipeline: int = setting(
        256,
        "commands",
        "limit of one client's commands under way; at the limit the server reads no more from it",
        least=1,
    )
    rate_limit: float = setting(
        500,
        "commands a second",
        "rate limit of one client, with a burst of twice as many; 0 for no limit",
        least=0,
    )
    rate_limit_address: float = setting(
        1000,
        "commands a second",
        "rate limit of one address, with a burst of twice as many; 0 for no limit",
        least=0,
    )
    control_rate: float = setting(
        5,
        "messages a second",
        "rate limit of one client's messages that are no commands, such as pings or fragments,"
        " and each 16 KiB of these, with a burst of five times as many; 0 for no limit",
        least=0,
    )
    connect_rate: float = setting(
        200,
        "connects a second",
        "rate limit of connection attempts from one address, with a burst of twice as many; 0"
        " for no limit",
        least=0,
    )
    failure_limit: float = setting(
        60,
        "sign-ins a minute",
        "rate limit of failed sign-ins from one address; 0 for no limit",
        least=0,
    )
    max_connections: int = setting(
        10_000, "connections", "limit of connections; 0 for no limit", least=0
    )
    max_connections_address: int = setting(
        1000, "connections", "limit of connections from one address; 0 for no limit", least=0
    )
    connect_timeout: float = setting(
        20, "seconds", "how long a Socket.IO client may take to send its CONNECT", least=0.1
    )
    request_timeout: float = setting(
        30, "seconds", "how long an HTTP request may take to arrive", least=0.1
    )
    ready_timeout: float = setting(
        2, "seconds", "how long the store may take to answer before `/readyz` fails", least=0.1
    )
    compress_above: int = setting(
        4096,
        "bytes",
        "size of an HTTP response above which it is compressed for clients that accept gzip; 0 for"
        " never",
        least=0,
    )
    keep_alive: float = setting(
        75, "seconds", "how long an HTTP connection may be idle between two requests", least=0
    )

    memory_budget: int = setting(
        134_217_728,
        "bytes",
        "memory for clients and caches: half of it for data that clients have not read or not"
        " finished sending, a quarter for ended jobs, an eighth for events for reconnecting"
        " clients, an eighth for the output of jobs (which Redis holds where it is used)",
        least=1_048_576,
    )
    hold_timeout: float = setting(
        2,
        "seconds",
        "how long a client may leave data unread or unfinished while others need the memory",
        least=0,
    )
    max_backlog: int = setting(
        262_144,
        "bytes",
        "high watermark of a client: with more unsent, it is sent no events until it has caught up",
        least=1024,
    )
    slow_timeout: float = setting(
        30,
        "seconds",
        "how long a client may stay above `MAX_BACKLOG` before it is disconnected",
        least=0.1,
    )
    replay: int = setting(
        1000,
        "events",
        "how many events of each open room's log are held in memory for reconnecting clients",
        least=0,
    )
    progress_rate: float = setting(
        5, "events a second", "rate limit of the progress events of one job", least=0.1
    )
    max_output: int = setting(
        65_536,
        "bytes",
        "how much of a job's latest output is retained for those who start to watch it",
        least=0,
    )
    output_retention: float = setting(
        3600, "seconds", "how long output is retained after the job last printed something", least=1
    )
    output_rate: float = setting(
        10, "events a second", "rate limit of the output events of one job", least=0.1
    )
    presence_interval: float = setting(
        1, "seconds", "shortest interval between two presence events of a room", least=0.05
    )
    presence_names: int = setting(50, "names", "limit of the names in a presence event", least=0)
    stall_timeout: float = setting(
        1,
        "seconds",
        "how long the process, or a commit, may stall before leases begin anew",
        least=0.1,
    )
    retry_interval: float = setting(
        1,
        "seconds",
        "delay before the end of a job that could not be written is tried again",
        least=0.01,
    )
    ping_interval: float = setting(
        25, "seconds", "interval of the heartbeat pings to a client", least=1
    )
    ping_timeout: float = setting(
        20, "seconds", "how long a client may take to answer a ping", least=1
    )
    upgrade_timeout: float = setting(
        5,
        "seconds",
        "how long a client may take to upgrade from long polling to a WebSocket",
        least=0.1,
    )
    close_timeout: float = setting(
        1,
        "seconds",
        "how long a closing handshake may take before the connection is cut",
        least=0.1,
    )
    stop_timeout: float = setting(
        4, "seconds", "how long the server may take to drain and stop", least=0.1
    )

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            least, most = item.metadata["least"], item.metadata["most"]
            if least is not None and not value >= least:
                raise ConfigError(f"{item.name.upper()} must be at least {least}, not {value}")
            if most is not None and not value <= most:
                raise ConfigError(f"{item.name.upper()} must be at most {most}, not {value}")
        if self.redis_deaf < 2 * self.redis_heartbeat:
            raise ConfigError(
                f"REDIS_DEAF must be at least {2 * self.redis_heartbeat:g}, twice REDIS_HEARTBEAT"
            )
        if not set(self.transport_names) <= {"websocket", "polling"}:
            raise ConfigError(
                f"TRANSPORTS must be websocket, polling or both, not {self.transports!r}"
            )
        if any(len(secret.encode()) < 32 for secret in self.secrets):
            raise ConfigError(
                "AUTH_SECRET is too short: each secret in it must have at least 32 bytes"
            )
        if self.auth_secret and not self.secrets:
            raise ConfigError("AUTH_SECRET has only commas: set a secret, or leave it out")
        if self.auth not in ("", "open"):
            raise ConfigError(f"AUTH must be open, or be left out, not {self.auth!r}")
        if self.auth and self.secrets:
            raise ConfigError("AUTH=open and AUTH_SECRET exclude each other: leave one of them out")
        if "*" in self.origins and not self.secrets:
            raise ConfigError(
                "ALLOWED_ORIGINS=* would let any web page start and kill: set AUTH_SECRET"
            )
        local = self.host == "localhost" or is_loopback(self.host)
        reached = self.trusted_proxies or not local
        if reached and not (self.auth or self.secrets):
            where = f"on {self.host}" if not self.trusted_proxies else "through TRUSTED_PROXIES"
            raise ConfigError(
                f"{where} others can reach this server, and without tokens they could start"
                " and kill: set AUTH_SECRET to at least 32 random bytes (`openssl rand -hex 32`"
                " makes some), or AUTH=open if everyone who reaches it may"
            )
        if self.log_format not in ("", "json", "text"):
            raise ConfigError(f"LOG_FORMAT must be json or text, not {self.log_format!r}")
        if self.log_level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ConfigError(
                f"LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR, not {self.log_level!r}"
            )

    @property
    def transport_names(self) -> list[str]:
        """The transports of Socket.IO that are served."""
        # Long polling needs a balancer that brings each client to the same server every time.
        either = "websocket" if self.redis_url else "websocket,polling"
        return [name.strip() for name in (self.transports or either).split(",")]

    @property
    def secrets(self) -> tuple[str, ...]:
        """Those that sign tokens, the one for new tokens first; none where none are needed."""
        found = (secret.strip() for secret in self.auth_secret.split(","))
        return tuple(secret for secret in found if secret)

    @property
    def origins(self) -> tuple[str, ...]:
        """Those of other sites whose pages may come in, as browsers write them, or `*`."""
        found = [origin.strip() for origin in self.allowed_origins.split(",")]
        try:
            return tuple(
                origin if origin == "*" else canonical_origin(origin) for origin in found if origin
            )
        except ValueError:
            raise ConfigError(
                "ALLOWED_ORIGINS must be origins such as https://example.org or"
                f" http://10.0.0.5:8080, with commas between, not {self.allowed_origins!r}"
            ) from None

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **given: Any) -> "Config":
        """The settings in `environ`, overridden by those `given` that are not None.

        An empty variable counts as unset, and the present name of a setting wins over an older
        one. Raises `ConfigError`.
        """
        values = {name: value for name, value in given.items() if value is not None}
        texts = {RENAMED[old]: environ[old] for old in renamed_settings(environ)} | {
            name: text for name, text in environ.items() if text
        }
        for item in dataclasses.fields(cls):
            text = texts.get(item.name.upper(), "")
            if text and item.name not in values:
                values[item.name] = _parse(item.name, type(item.default), text)
        return cls(**values)


def renamed_settings(environ: Mapping[str, str]) -> list[str]:
    """The variables in `environ` that have another name by now; see `RENAMED`."""
    return [old for old in RENAMED if environ.get(old)]


def _parse(name: str, kind: type, text: str) -> Any:
    # A default of `25` may stand for a float: the annotation, not the default, is exact.
    if Config.__annotations__[name] is float:
        kind = float
    if kind is bool:
        if text.lower() not in SWITCH:
            raise ConfigError(f"{name.upper()} must be yes or no, not {text!r}")
        return SWITCH[text.lower()]
    try:
        return kind(text)
    except ValueError:
        noun = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{name.upper()} must be {noun}, not {text!r}") from None
