"""What a program that measures and publishes does around its measuring: a folder, signals, the machine, the files."""

import asyncio
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc

from cli.failures import CliError
from loadtest.bench import machine
from loadtest.bench.bystanders import Bystanders

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED_FOLDER = ROOT / "docs" / "benchmarks"
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


class FleetRun:
    """One run. `folder`: of its own, for data and logs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bystanders = Bystanders()
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self._began

    def machine(self) -> dict[str, Any]:
        """What describe_host tells of this run's folder."""
        return dict(machine.describe_host(self.folder))

    def bystanders_note(self) -> str:
        """How far to trust the figures."""
        return self._bystanders.note()

    def notes(self) -> list[str]:
        """How far to trust the figures, and how long it took."""
        return [self.bystanders_note(), f"run of {self.seconds:.0f} s"]


async def run_to_end(name: str, work: Callable[[FleetRun], Awaitable[int]], *, keeps_data: bool = False) -> int:
    """The exit code of `work`, or of its failure. SIGINT and SIGTERM cancel it, so that it ends what it started.

    The folder goes with the run, unless that failed or `keeps_data`.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def interrupt() -> None:
        # Once: what ends the children must not be interrupted itself.
        if not task.cancelling():
            say("ending what was started")
            task.cancel()

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, interrupt)
    run = FleetRun(Path(tempfile.mkdtemp(prefix=f"evenflow-{name}-", dir="/tmp")))
    keeps = keeps_data
    try:
        return await work(run)
    except asyncio.CancelledError:
        say("interrupted; everything that was started has ended")
        return EXIT_INTERRUPTED
    except (RuntimeError, TimeoutError, OSError, CliError, grpc.aio.AioRpcError) as e:
        keeps = True
        say(f"error: {e or type(e).__name__}")
        return EXIT_FAILED
    finally:
        if keeps:
            say(f"data and logs are in {run.folder}")
        else:
            with contextlib.suppress(OSError):
                shutil.rmtree(run.folder)


def as_text(facts: Mapping[str, Any]) -> str:
    """Facts for programs, as a file holds them."""
    return json.dumps(facts, indent=1) + "\n"


def publish(name: str, facts: Mapping[str, Any], page: str, folder: Path | None = None) -> None:
    """Write NAME.json and NAME.md in docs/benchmarks, or in another folder of this tree."""
    folder = folder or PUBLISHED_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(as_text(facts))
    (folder / f"{name}.md").write_text(page)
    say(f"written: {folder.relative_to(ROOT)}/{name}.json and {name}.md")
