"""A measuring program ends what it started and says how it went, whatever happens."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from loadtest.bench import fleet_run
from loadtest.bench.fleet_run import EXIT_FAILED, EXIT_INTERRUPTED, FleetRun
from loadtest.bench.results import Results
from loadtest.growth import backlog, functions, report


async def test_a_run_that_ends_leaves_no_folder() -> None:
    """Its exit code is its own."""
    folders: list[Path] = []

    async def work(run: FleetRun) -> int:
        folders.append(run.folder)
        assert run.folder.is_dir() and run.machine()["cores"] and len(run.notes()) == 2
        return 3

    assert await fleet_run.run_to_end("test", work) == 3
    assert not folders[0].exists()


async def test_a_run_that_fails_says_where_its_data_is(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, no traceback; logs are kept to be read."""

    async def work(run: FleetRun) -> int:
        raise RuntimeError("the fleet ended")

    assert await fleet_run.run_to_end("test", work) == EXIT_FAILED
    told = capsys.readouterr().err
    folder = Path(told.rpartition("data and logs are in ")[2].strip())
    assert "error: the fleet ended" in told and folder.is_dir()
    folder.rmdir()


async def test_an_interrupt_lets_the_run_clean_up_once() -> None:
    """A second signal does not cut short what ends the children."""
    cleaned: list[str] = []

    async def work(run: FleetRun) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            # The loop reads the signal in its next round or the one after.
            for _ in range(10):
                await asyncio.sleep(0)
            cleaned.append("all")
        return 0

    task = asyncio.create_task(fleet_run.run_to_end("test", work))
    assert await task == EXIT_INTERRUPTED
    assert cleaned == ["all"]


@pytest.mark.parametrize("comparison", [backlog.COMPARISON, functions.COMPARISON])
def test_much_is_judged_by_little(comparison: report.Comparison) -> None:
    """A drain at half the rate misses, an accept at 0.9 times meets; what was not measured meets nothing."""
    results = Results()
    for measure, little, much in (("accept", 1_000, 900), ("drain", 1_000, 500)):
        results.add(measure, comparison.little, little)
        results.add(measure, comparison.much, much)
    titles = {row.measure: row.title for row in comparison.rows}
    lines = {line[0]: line for line in report.lines(comparison, results)}
    accept, drain = lines.pop(titles["accept"]), lines.pop(titles["drain"])
    assert all(line[-1] != "met" for line in lines.values())
    assert accept[-3:] == ("0.90x", ">= 0.8x", "met")
    assert drain[-3:] == ("0.50x", ">= 0.8x", "missed")
    page = report.as_markdown(comparison, results, "a machine")
    assert page.startswith(f"# {comparison.title}\n") and "| 0.50x | >= 0.8x | missed |" in page
