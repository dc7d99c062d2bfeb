"""What handlers leave behind, written by real processes."""

import asyncio
import sys
import time
from pathlib import Path

import pytest

from loadtest.bench import tick_reader, ticks
from loadtest.bench.tick_reader import Stalled, TickReader

_MARKS = """
import sys, threading
from loadtest.bench import ticks
def run():
    for _ in range(int(sys.argv[1])):
        ticks.mark()
threads = [threading.Thread(target=run) for _ in range(2)]
[t.start() for t in threads]
[t.join() for t in threads]
"""


async def test_runs_of_every_process_and_thread_are_counted(run_dir: Path) -> None:
    """Two processes of two threads each: nothing is lost, and the last start is the latest one."""
    reader = TickReader(run_dir / "ticks")
    assert (reader.runs(), reader.latest_start_ns()) == (0, 0)
    began_ns = time.time_ns()
    environment = {ticks.FOLDER_VARIABLE: str(reader.folder), "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-c", _MARKS, "500"]
    started = [await asyncio.create_subprocess_exec(*command, env=environment) for _ in range(2)]
    try:
        await reader.wait_for(2_000)
    finally:
        assert [await process.wait() for process in started] == [0, 0]
    assert reader.runs() == 2_000
    assert began_ns < reader.latest_start_ns() < time.time_ns()
    assert len(list(reader.folder.glob("*.tick"))) == 4


async def test_lost_runs_are_an_error(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that never comes ends the wait and says how many came."""
    monkeypatch.setattr(tick_reader, "STALL_SECONDS", 0.02)
    with pytest.raises(Stalled, match="0 of 1 handler runs"):
        await TickReader(run_dir / "ticks").wait_for(1)
