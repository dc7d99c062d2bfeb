"""Cold starts side by side: a further sandbox at one runtime host, a Python in bubblewrap, a fresh awslambdaric.

All three import boto3 in the handler, awslambdaric also without; interleaved, one of each a round. And what a warm idle
sandbox costs in memory, by many of them at once.
"""

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from evenflow.runtime.v1 import runtime_pb2

from loadtest import runtime_bench
from loadtest.bench import stats
from loadtest.bench.fresh_client import FreshClient
from loadtest.bench.options import Sizes
from loadtest.bench.processes import pss_bytes
from loadtest.bench.results import Results
from loadtest.bench.rounds import P50, P99
from loadtest.bench.rows import EVENFLOW
from loadtest.stand_in_control import StandInControl

# How long the first sandbox stays busy, so that the next run needs a further one.
_BUSY_SECONDS = 0.2
_BUSY_AFTER_SECONDS = 0.1
_FRESH_SECONDS = 30.0
_WARM_SECONDS = 20.0
_MEMORY_MB = 256
_OTHERS = {
    "bubblewrap": "bubblewrap",
    "awslambdaric": "awslambdaric",
    "awslambdaric, nothing imported": "plain_client",
}
_BWRAP = ("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--unshare-all")


class _Times:
    """Milliseconds of each kind; a kind that could not be started once is left out, with a note."""

    def __init__(self) -> None:
        self.by_kind: dict[str, list[float]] = {}

    def add(self, kind: str, began: float) -> None:
        self.by_kind.setdefault(kind, []).append((time.perf_counter() - began) * 1e3)

    def quantile(self, kind: str, part: float) -> float | None:
        return stats.quantile(self.by_kind[kind], part) if kind in self.by_kind else None


async def measure(sizes: Sizes, results: Results) -> None:
    """Rows of cold starts and of an idle sandbox's memory."""
    times = _Times()
    with tempfile.TemporaryDirectory(prefix="efb-", dir="/tmp") as folder:
        control = StandInControl({"account": 1_000})
        settings = {
            "EVENFLOW_RUNTIME_MAX_SANDBOXES": str(sizes.warm_sandboxes),
            # What many functions of 128 MB may use by their configuration is far more than they do.
            "EVENFLOW_RUNTIME_MEMORY_MB": str(sizes.warm_sandboxes * _MEMORY_MB),
        }
        host = runtime_bench.HostProcess(Path(folder), control, settings)
        await host.start()
        try:
            for number in range(sizes.cold_functions):
                control.deploy(f"cold-{number}", runtime_bench.WITH_BOTO3)
                await _one_round(host, f"cold-{number}", times, results)
            described = await host.stub.DescribeHost(runtime_pb2.DescribeHostRequest(), metadata=host.peer.metadata)
            await _measure_memory(host, control, sizes.warm_sandboxes, results)
        finally:
            await host.stop()
    _tell(times, described.isolation, results)


async def _one_round(host: runtime_bench.HostProcess, name: str, times: _Times, results: Results) -> None:
    # The first one fetches the package; the further sandbox is what is measured.
    first = host.invoke(name, _BUSY_SECONDS)
    await asyncio.sleep(_BUSY_AFTER_SECONDS)
    began = time.perf_counter()
    await host.invoke(name, 0)
    times.add("evenflow", began)
    await first
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is not None:
        began = time.perf_counter()
        if await _run([bubblewrap, *_BWRAP, sys.executable, "-c", "import boto3"]) == 0:
            times.add("bubblewrap", began)
    for kind, handler in (("awslambdaric", "import boto3"), ("awslambdaric, nothing imported", "")):
        async with FreshClient(handler) as client:
            began = time.perf_counter()
            if await client.first_answer():
                times.add(kind, began)


async def _measure_memory(
    host: runtime_bench.HostProcess, control: StandInControl, count: int, results: Results
) -> None:
    """Proportional set size of one of many idle sandboxes of a function, its init included."""
    control.deploy("many", runtime_bench.WITH_BOTO3, timeout_ms=60_000)
    began = time.perf_counter()
    # Each stays busy until all are there.
    await asyncio.gather(*(host.invoke("many", _WARM_SECONDS, max_wait_ms=60_000) for _ in range(count)))
    took = time.perf_counter() - began - _WARM_SECONDS
    described = await host.stub.DescribeHost(runtime_pb2.DescribeHostRequest(), metadata=host.peer.metadata)
    pids = [s.pid for s in described.sandboxes if s.function_name == "many" and s.state == "idle"]
    sizes = [pss_bytes(pid) for own in pids for pid in (own, *_inits_of(own))]
    if not pids or None in sizes:
        results.notes.append("memory of idle sandboxes: they could not be read (run as root)")
        return
    results.add("idle_sandbox_mib", EVENFLOW, sum(size or 0 for size in sizes) / len(pids) / (1 << 20))
    results.notes.append(f"memory of an idle sandbox: of {len(pids)}, all of one function, started in {took:.0f} s")


def _inits_of(pid: int) -> list[int]:
    """The first process of its PID namespace, as this machine numbers it; it is its next older sibling."""
    try:
        parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        siblings = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        space = Path(f"/proc/{pid}/ns/pid").readlink()
        return [int(one) for one in siblings if int(one) != pid and Path(f"/proc/{one}/ns/pid").readlink() == space]
    except OSError:
        return []


def _tell(times: _Times, isolation: str, results: Results) -> None:
    ours = times.quantile("evenflow", P50)
    assert ours is not None
    results.add("host_cold_p50", EVENFLOW, ours)
    results.add("host_cold_p99", EVENFLOW, times.quantile("evenflow", P99) or 0.0)
    words = []
    for kind, measure in _OTHERS.items():
        theirs = times.quantile(kind, P50)
        if theirs is None:
            results.notes.append(f"cold starts: {kind} could not be started here")
            continue
        words.append(f"{kind} {theirs:.0f} ms")
        results.add(f"cold_times_{measure}", EVENFLOW, theirs / ours)
    rounds = len(times.by_kind["evenflow"])
    results.notes.append(f"cold starts in {isolation}, {rounds} rounds; p50 of the others: {', '.join(words)}")


async def _run(command: list[str]) -> int:
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command, stdin=quiet, stdout=quiet, stderr=quiet, cwd=Path(sys.prefix), start_new_session=True
    )
    try:
        async with asyncio.timeout(_FRESH_SECONDS):
            return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
