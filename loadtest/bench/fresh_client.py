"""A fresh awslambdaric, AWS's own runtime client, against as little of a Runtime API as one run needs."""

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from types import TracebackType

ANSWER_SECONDS = 30.0
_HANDLER = "{imports}\ndef handler(event, context):\n    return None\n"
_NEXT = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 1\r\n"
    b"Lambda-Runtime-Deadline-Ms: 9999999999999\r\nLambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:::function:f\r\n"
    b"Lambda-Runtime-Trace-Id: Root=1\r\nContent-Length: 2\r\n\r\n{}"
)
_ACCEPTED = b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"status":"OK"}'


class FreshClient:
    """`async with`: the API listens; `first_answer` starts a client and waits until it has answered its one event."""

    def __init__(self, imports: str) -> None:
        self._imports = imports
        self._answered = asyncio.Event()

    async def __aenter__(self) -> "FreshClient":
        self._folder = tempfile.TemporaryDirectory(prefix="efb-")
        Path(self._folder.name, "app.py").write_text(_HANDLER.format(imports=self._imports))
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._folder.cleanup()

    async def first_answer(self) -> bool:
        """From the start of the process to its answer; False: it ended without one, or took too long."""
        host, port = self._server.sockets[0].getsockname()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "awslambdaric",
            "app.handler",
            cwd=self._folder.name,
            env={**os.environ, "AWS_LAMBDA_RUNTIME_API": f"{host}:{port}", "LAMBDA_TASK_ROOT": self._folder.name},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = asyncio.ensure_future(self._answered.wait())
                end = asyncio.ensure_future(process.wait())
                await asyncio.wait((answer, end), return_when=asyncio.FIRST_COMPLETED)
                answer.cancel()
                return self._answered.is_set()
        except TimeoutError:
            return False
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not self._answered.is_set():
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
                length = int(lengths[0].partition(b":")[2]) if lengths else 0
                await reader.readexactly(length)
                if head.startswith(b"GET"):
                    writer.write(_NEXT)
                else:
                    writer.write(_ACCEPTED)
                    self._answered.set()
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            # It was ended.
            pass
        finally:
            writer.close()
