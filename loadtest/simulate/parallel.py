"""Runs that do not depend on each other, side by side in processes; the answers come in the order of the runs."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

JobT = TypeVar("JobT")
AnswerT = TypeVar("AnswerT")
MAX_PROCESSES = 64


def run_all(
    work: Callable[[JobT], AnswerT],
    jobs: Sequence[JobT],
    processes: int = 0,
    done: Callable[[], None] = lambda: None,
) -> list[AnswerT]:
    """`work` of every job; `done` is called after each. processes: 0 is one a core, 1 is this one.

    Unless one process does it all, `work` and the jobs have to be picklable and the program a file, not standard input.
    """
    wanted = min(processes or len(os.sched_getaffinity(0)), len(jobs), MAX_PROCESSES)
    if wanted <= 1:
        found = []
        for job in jobs:
            found.append(work(job))
            done()
        return found
    # Not forked: the caller may have threads, gRPC's among them.
    with ProcessPoolExecutor(wanted, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                done()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in futures]
