"""Cells one after the other, or some at a time in processes of their own: not in __main__, which those do not have."""

import multiprocessing
import signal
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.faults.matrix.cell import Result
from tests.faults.matrix.cells import CELLS
from tests.faults.matrix.run import run

# A cell's name, its seed, its events, and a mutant or "".
Job = tuple[str, int, int, str]


def results(jobs: Sequence[Job], at_a_time: int, logs: Path) -> Generator[Result, None, None]:
    """Those that judge by the clock one by one, with the machine to themselves; then the others."""
    alone = [job for job in jobs if at_a_time == 1 or CELLS[job[0]].is_timed]
    for job in alone:
        yield _run(job, logs)
    together = [job for job in jobs if job not in alone]
    if together:
        # Started anew, as gRPC does not survive a fork.
        spawned = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(at_a_time, spawned, _begin_worker) as pool:
            yield from _as_they_end(pool, together, logs)


def _as_they_end(pool: ProcessPoolExecutor, jobs: Iterable[Job], logs: Path) -> Iterator[Result]:
    futures = [pool.submit(_run, job, logs) for job in jobs]
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        going_on = [one for one in futures if not (one.done() or one.cancel())]
        if going_on:
            # Whoever ends this ends its fleets with it.
            for worker in multiprocessing.active_children():
                worker.terminate()


def _begin_worker() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _run(job: Job, logs: Path) -> Result:
    name, seed, events, mutant = job
    return run(CELLS[name], seed, events, mutant, logs)
