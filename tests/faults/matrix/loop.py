"""The runner's one event loop, in a thread of its own: gRPC's asyncio half does not outlive the loop it met first."""

import asyncio
import concurrent.futures
import functools
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def start(work: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
    """Run it in the loop."""
    return asyncio.run_coroutine_threadsafe(work, _loop())


def run(work: Coroutine[Any, Any, T], within_seconds: float) -> T:
    """Run it in the loop, and wait for its result. TimeoutError."""
    future = start(work)
    try:
        return future.result(within_seconds)
    finally:
        # After Ctrl-C, too.
        future.cancel()


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="fault loop", daemon=True).start()
    return loop
