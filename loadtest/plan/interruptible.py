"""Runs a coroutine that Ctrl-C ends in order: it is cancelled once, and may take its time to clean up."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupted(Exception):
    """SIGINT or SIGTERM came; what was started has ended."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Its result. Interrupted: a signal came meanwhile."""
    # Not uvloop: it starts programs by a fork that runs gRPC's handlers, the standard library's loop by a plain one.
    return asyncio.run(_attended(main))


async def _attended(main: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    task = loop.create_task(main, name="interruptible")
    is_interrupted = False

    def interrupt() -> None:
        nonlocal is_interrupted
        if not is_interrupted:
            # Once: a second one would cut off the cleaning up.
            is_interrupted = True
            print("stopping what was started", file=sys.stderr, flush=True)
            task.cancel()

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        if is_interrupted:
            raise Interrupted from None
        raise
