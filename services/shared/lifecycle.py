"""How a service process starts, drains and ends."""

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import uvloop

from services.shared import logs
from services.shared.settings import NodeSettings, SettingsError, load

EXIT_BAD_SETTINGS = 2
EXIT_CANNOT_START = 3
# Threads of this process hand small pieces of work to each other: a shorter turn keeps the hand-over short.
SWITCH_INTERVAL_SECONDS = 0.001
# Objects made before the collector looks for cycles among the young ones. Events in memory are many and form none: at
# Python's own 700 the collector took a tenth of a busy queue node's time.
COLLECT_AFTER_OBJECTS = 20_000
_PR_SET_PDEATHSIG = 1
log = logging.getLogger(__name__)


class Service(Protocol):
    """What a process runs."""

    async def start(self) -> None:
        """Serve. OSError: an address is taken; ValueError: the state on disk does not fit the settings."""
        ...

    async def drain(self) -> None:
        """Take nothing new, finish or give back what is held."""
        ...

    async def stop(self) -> None:
        """Close everything; called after drain, or when the time to drain is over."""
        ...


S = TypeVar("S", bound=NodeSettings)


def main(settings_class: type[S], build: Callable[[S], Awaitable[Service]]) -> None:
    """Run one service until SIGTERM or SIGINT; exits 0 after a drain, 2 for bad settings, 3 when it cannot start."""
    # A crash in native code leaves its stack in the log.
    faulthandler.enable()
    try:
        settings = load(settings_class, os.environ)
    except SettingsError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(EXIT_BAD_SETTINGS)
    logs.configure(settings.node_id, settings.log_level)
    die_with_parent()
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    sys.exit(uvloop.run(_run(settings, build)))


def spare_collector() -> None:
    """Once everything is set up: what was made until now stays for good and need not be looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS, *gc.get_threshold()[1:])


def die_with_parent() -> None:
    """Have the kernel end this process when its supervisor is gone, so that a killed supervisor leaves nothing."""
    parent = os.environ.get("EVENFLOW_SUPERVISOR_PID")
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit(0)


async def _run(settings: S, build: Callable[[S], Awaitable[Service]]) -> int:
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, asked_to_stop.set)
    try:
        service = await build(settings)
        await service.start()
    except (OSError, ValueError) as e:
        log.error("cannot start: %s", e)
        return EXIT_CANNOT_START
    spare_collector()
    log.info("serving")
    await asked_to_stop.wait()
    log.info("draining")
    try:
        async with asyncio.timeout(settings.drain_seconds):
            await service.drain()
    except TimeoutError:
        log.warning("drain did not end within %.1f s; stopping", settings.drain_seconds)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            await service.stop()
    log.info("stopped")
    logging.shutdown()
    return 0
