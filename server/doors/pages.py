"""The pages, and their assets."""

from contextlib import suppress
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from server.doors.compression import accepts_gzip, compressed_file
from server.doors.origin_guard import PAGE_POLICY

CLIENT = Path(__file__).parent.parent.parent / "client"
KINDS = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""The media types of assets, by the suffixes of their names."""
ASSETS = {
    path.relative_to(CLIENT).as_posix(): path for path in CLIENT.rglob("*") if path.suffix in KINDS
}
"""The assets of the pages, by their paths below `client/`."""
SIZES = {path: path.stat().st_size for path in ASSETS.values()}


class File(web.FileResponse):
    """A file that exists: where it cannot be opened the process is out of descriptors."""

    def set_status(self, status: int, reason: str | None = None) -> None:
        if status == 404:
            status = 503
            self.headers["Retry-After"] = "1"
        super().set_status(status, reason)


class Pages:
    """The routes of the pages."""

    def __init__(self, compress_above: int) -> None:
        """Larger files are compressed, in bytes; 0 is off."""
        self._compress_above = compress_above

    def add_to(self, app: web.Application) -> None:
        """Add the routes to an application."""
        app.router.add_get("/", self._page("index.html"))
        app.router.add_get("/docs", self._page("docs/docs.html"))
        app.router.add_get("/client/{path:.+}", self._asset)

    def _page(self, name: str) -> Handler:
        async def handle(http_request: web.Request) -> web.StreamResponse:
            response = await self._file(http_request, ASSETS[name])
            response.headers["Content-Security-Policy"] = PAGE_POLICY
            return response

        return handle

    async def _asset(self, http_request: web.Request) -> web.StreamResponse:
        """An asset. Only known paths are served, so none can lead out of `client/`."""
        found = ASSETS.get(http_request.match_info["path"])
        if found is None:
            raise web.HTTPNotFound
        return await self._file(http_request, found)

    async def _file(self, http_request: web.Request, path: Path) -> web.StreamResponse:
        large = self._compress_above and SIZES[path] > self._compress_above
        if large and accepts_gzip(http_request) and "Range" not in http_request.headers:
            with suppress(OSError):  # `File` says that it is out of descriptors.
                return await compressed_file(http_request, path, KINDS[path.suffix])
        response = File(path, headers={"Content-Type": f"{KINDS[path.suffix]}; charset=utf-8"})
        if large:
            response.headers.add("Vary", "Accept-Encoding")
        return response
