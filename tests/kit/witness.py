"""What handlers say of themselves: when each run began and ended, by the machine's own monotonic clock.

A handler holds one connection for the life of its sandbox and writes a line at the beginning and at the end of a run.
When it dies in between, the kernel closes the connection: then the run ended.
"""

import socketserver
import threading
import time
from dataclasses import dataclass
from typing import Any

# The handler of a deploy file: waits as long as its environment says, and tells the witness.
SOURCE = """
    import os, socket, time

    CONNECTION = socket.create_connection(("127.0.0.1", int(os.environ["WITNESS_PORT"])))
    CONNECTION.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handler(event, context):
        host = context.log_stream_name.rpartition("]")[2].partition("/")[0]
        CONNECTION.sendall(b"B %d %s %s\\n" % (time.monotonic_ns(), host.encode(), context.function_name.encode()))
        try:
            time.sleep(float(os.environ["WITNESS_SECONDS"]))
        finally:
            CONNECTION.sendall(b"E %d\\n" % time.monotonic_ns())
"""


@dataclass(slots=True)
class Interval:
    """One run: where, of which function, from when to when, in nanoseconds; ended_ns 0: it still runs."""

    host_id: str
    function_name: str
    began_ns: int
    ended_ns: int = 0


class Witness:
    """Listens inside `with`; `port`: for the handlers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._intervals: list[Interval] = []
        witness = self

        class Handler(socketserver.StreamRequestHandler):
            """One sandbox."""

            def handle(self) -> None:
                witness._listen(self.rfile)

        class Server(socketserver.ThreadingTCPServer):
            """Threads that do not outlive the tests."""

            daemon_threads = True
            request_queue_size = 512

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> "Witness":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, seconds: float) -> dict[str, str]:
        """Of a function whose runs take so long."""
        return {"WITNESS_PORT": str(self.port), "WITNESS_SECONDS": str(seconds)}

    def intervals(self, function_name: str) -> list[Interval]:
        """Everything that was told of a function's runs until now."""
        with self._lock:
            return [
                Interval(one.host_id, one.function_name, one.began_ns, one.ended_ns)
                for one in self._intervals
                if one.function_name == function_name
            ]

    def running(self, function_name: str) -> int:
        """Runs under way, as far as it was told."""
        return sum(not one.ended_ns for one in self.intervals(function_name))

    def _listen(self, lines: Any) -> None:
        open_run: Interval | None = None
        try:
            for line in lines:
                word, at_ns, *rest = line.split()
                with self._lock:
                    if word == b"B":
                        open_run = Interval(rest[0].decode(), rest[1].decode(), int(at_ns))
                        self._intervals.append(open_run)
                    elif open_run is not None:
                        open_run.ended_ns, open_run = int(at_ns), None
        except ConnectionError:
            pass
        if open_run is not None:
            open_run.ended_ns = time.monotonic_ns()


def highest(intervals: list[Interval]) -> int:
    """The most runs that were under way at one instant. Pure."""
    steps = sorted(
        # One that ends in the very nanosecond in which another begins is not beside it.
        [(one.began_ns, 1) for one in intervals] + [(one.ended_ns, -1) for one in intervals if one.ended_ns]
    )
    now = most = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def busy_ns(intervals: list[Interval], hosts: set[str], from_ns: int, to_ns: int) -> int:
    """The time that runs on these hosts took within a window, all together. Pure."""
    return sum(
        max(0, min(one.ended_ns or to_ns, to_ns) - max(one.began_ns, from_ns))
        for one in intervals
        if one.host_id in hosts
    )
