"""Looks at a fleet again and again: memory, descriptors, threads, files, rows, depths. It only reads."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from cli import fleet_file
from cli.scrape import scrape, total
from loadtest.bench import processes
from loadtest.plan.site import SANDBOXES, SUPERVISOR, Shards, Site
from services.shared.channels import read_token

# A day at the shortest interval.
MAX_SAMPLES = 100_000
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
OUTCOMES_METRIC = "evenflow_queue_outcomes"


@dataclass(frozen=True, slots=True)
class Process:
    """One look at a node, or at all sandboxes. fds: -1 where one of them may not be read."""

    processes: int
    rss_bytes: int
    fds: int
    threads: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. at_seconds: since the begin of the load; nodes: by node id; pids: of the nodes; disk: bytes by kind."""

    at_seconds: float
    load_average: float
    nodes: dict[str, Process]
    pids: dict[str, int]
    disk: dict[str, int]
    outcomes: int
    dead_letters: int
    depth: int
    accepted: int
    finished: int


class Watch:
    """`run` until it is cancelled; `samples` in the order of time, `missed` looks that a node did not answer."""

    def __init__(self, site: Site, interval_seconds: float, told: Callable[[Sample], None]) -> None:
        """told: of every sample."""
        self.samples: list[Sample] = []
        self.missed = 0
        self._site = site
        self._interval_seconds = interval_seconds
        self._told = told

    async def run(self, began: float) -> None:
        """began: of the load, by the monotonic clock. Looks at every interval since then."""
        number = 0
        while len(self.samples) < MAX_SAMPLES:
            number = max(number + 1, int((time.monotonic() - began) / self._interval_seconds))
            await asyncio.sleep(max(0.0, began + number * self._interval_seconds - time.monotonic()))
            try:
                shards = await self._site.shards()
                sample = await asyncio.to_thread(look, self._site, shards, time.monotonic() - began)
            except (grpc.aio.AioRpcError, OSError, ValueError):
                self.missed += 1
                continue
            self.samples.append(sample)
            self._told(sample)


def look(site: Site, shards: Shards, at_seconds: float) -> Sample:
    """Everything but what `shards` tells. OSError, ValueError: a queue node's metrics do not answer; CliError."""
    running = fleet_file.running(site.data)
    pids = {name: node.pid for name, node in running.nodes.items()} | {SUPERVISOR: site.supervisor}
    name_of = {pid: name for name, pid in pids.items()}
    found: dict[str, list[Process]] = {}
    for pid in processes.tree_times(site.supervisor):
        if (one := read_process(pid)) is not None:
            found.setdefault(name_of.get(pid, SANDBOXES), []).append(one)
    token = read_token(running.token_file)
    sockets = [node.metrics_socket for node in running.of_role("queue").values()]
    return Sample(
        at_seconds=round(at_seconds, 2),
        load_average=os.getloadavg()[0],
        nodes={name: _sum(parts) for name, parts in sorted(found.items())},
        pids=pids,
        disk=disk_bytes(site.data),
        outcomes=int(sum(total(scrape(path, token), OUTCOMES_METRIC) for path in sockets)),
        dead_letters=shards.dead_letters,
        depth=shards.depth,
        accepted=shards.accepted,
        finished=shards.finished,
    )


def read_process(pid: int) -> Process | None:
    """What /proc says; None: it is gone. What may not be read has fds -1."""
    try:
        rss = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return None
    try:
        return Process(1, rss, len(os.listdir(f"/proc/{pid}/fd")), threads)
    except FileNotFoundError:
        return None
    except OSError:
        return Process(1, rss, -1, threads)


def _sum(parts: list[Process]) -> Process:
    fds = -1 if any(one.fds < 0 for one in parts) else sum(one.fds for one in parts)
    return Process(len(parts), sum(one.rss_bytes for one in parts), fds, sum(one.threads for one in parts))


def disk_bytes(data: Path) -> dict[str, int]:
    """Bytes of the files below a data folder by kind: see kind_of."""
    found: dict[str, int] = {}
    for folder, _, names in os.walk(data):
        for name in names:
            path = Path(folder) / name
            try:
                size_bytes = path.lstat().st_size
            except OSError:
                # It went meanwhile.
                continue
            kind = kind_of(path.relative_to(data))
            found[kind] = found.get(kind, 0) + size_bytes
    return found


def kind_of(path: Path) -> str:
    """A file's kind by its path in the data folder: "shards", "wal", or its uppermost folder ("other" without one)."""
    if path.parts[0] == "queue":
        return "wal" if path.name.endswith("-wal") else "shards"
    return path.parts[0] if len(path.parts) > 1 else "other"
