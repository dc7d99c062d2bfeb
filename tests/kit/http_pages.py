"""A plain HTTP server of the loopback with pages that a test puts there; it notes who was visited."""

import asyncio


class HttpPages:
    """GET only; anything that is not put is a 404."""

    def __init__(self) -> None:
        self.visited: list[str] = []
        self.url = ""
        self._pages: dict[str, tuple[bytes, str]] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Serve."""
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """End."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def put(self, path: str, body: bytes, redirect_to: str = "") -> None:
        """Serve this at the path, whatever its query; or send visitors elsewhere."""
        self._pages[path] = (body, redirect_to)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        target = head.split(b" ", 2)[1].decode()
        page = self._pages.get(target.partition("?")[0])
        if page is None:
            status, body, more = "404 Not Found", b"", ""
        else:
            self.visited.append(target)
            body, redirect_to = page
            status, more = ("302 Found", f"Location: {redirect_to}\r\n") if redirect_to else ("200 OK", "")
        length = f"Content-Length: {len(body)}\r\n"
        writer.write(f"HTTP/1.1 {status}\r\n{length}{more}Connection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()
