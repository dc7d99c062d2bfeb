"""Makes one recording: three runs of a node, with an orderly end, a crash and a new shard in between."""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.power_loss import recorder
from tests.faults.power_loss.disk import Disk, Model
from tests.faults.power_loss.link import Disconnected, Link
from tests.faults.power_loss.node import DISK
from tests.faults.power_loss.promises import Promises
from tests.faults.power_loss.recorder import Kind, Marks
from tests.faults.power_loss.traffic import Book, Traffic

ROOT = Path(__file__).parents[3]
START_SECONDS = 60
END_SECONDS = 30
FIRST_SHARDS, LAST_SHARDS = 2, 3
LOG = "log"
# More than a run needs that ends with the node.
MAX_STEPS = 10_000


class NodeFailed(Exception):
    """The recorded node did not do what it was told; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One log, checked against the disk that it describes."""

    seed: int
    log: Path
    records: int
    accepted: int
    # Records by kind, and events of answered operations by the places that these may leave them in.
    calls: dict[str, int]
    answered: dict[str, int]


async def record(folder: Path, library: Path, seed: int, steps: int, mutant: str = "") -> Recording:
    """Record into this empty folder; `steps`: operations of the client in each run, a few more in the second.

    NodeFailed, TimeoutError. ValueError: the log and the disk do not agree.
    """
    disk, log = folder / DISK, folder / LOG
    disk.mkdir()
    marks = Marks(log)
    try:
        book = Book(random.Random(seed), marks)
        made = _Runs(folder, library, book, mutant)
        await made.first(steps)
        await made.second(steps)
        await made.third(steps)
    finally:
        marks.close()
    return _checked(seed, log)


class _Runs:
    def __init__(self, folder: Path, library: Path, book: Book, mutant: str) -> None:
        self._folder = folder
        self._library = library
        self._book = book
        self._mutant = mutant

    async def first(self, steps: int) -> None:
        """From an empty disk to an orderly end."""
        async with self._node(FIRST_SHARDS) as node, self._linked() as link:
            await Traffic(self._book, link, FIRST_SHARDS).run(steps)
            await node.close()

    async def second(self, steps: int) -> None:
        """A shard is made while the others work; then the node dies in the middle of everything."""
        async with self._node(FIRST_SHARDS) as node, self._linked() as link:
            traffic = Traffic(self._book, link, FIRST_SHARDS)
            self._book.marks.mark("map", LAST_SHARDS)
            await asyncio.gather(traffic.run(steps // 2), node.tell(f"map {LAST_SHARDS}"))
            traffic.shard_count = LAST_SHARDS
            await traffic.run(steps // 2)
            working = asyncio.create_task(traffic.run(MAX_STEPS))
            await asyncio.wait_for(link.has_answered(steps // 4), END_SECONDS)
            await node.crash()
            await working

    async def third(self, steps: int) -> None:
        """Everything that was left open is sent again."""
        async with self._node(LAST_SHARDS) as node, self._linked() as link:
            traffic = Traffic(self._book, link, LAST_SHARDS)
            with contextlib.suppress(Disconnected):
                await traffic.repeat_unanswered()
            await traffic.run(steps)
            await node.close()

    @contextlib.asynccontextmanager
    async def _node(self, shards: int) -> AsyncIterator["_Node"]:
        self._book.marks.mark("map", shards)
        node = await _Node.start(self._folder, self._library, shards, self._mutant)
        try:
            yield node
        finally:
            await node.end()
        self._book.marks.mark("disk", _digests(self._folder / DISK))

    @contextlib.asynccontextmanager
    async def _linked(self) -> AsyncIterator[Link]:
        link = Link(self._folder)
        await link.open()
        try:
            yield link
        finally:
            await link.close()


class _Node:
    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, folder: Path, library: Path, shards: int, mutant: str) -> "_Node":
        log = folder / "node.log"
        command = [sys.executable, "-m", "tests.faults.power_loss.node", str(folder), str(shards), mutant]
        stderr = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=ROOT,
                env={**os.environ, **recorder.environment(library, folder / DISK, folder / LOG)},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
            )
        finally:
            os.close(stderr)
        node = cls(process, log)
        try:
            await node._answered()
        except BaseException:
            await node.end()
            raise
        return node

    async def tell(self, line: str) -> None:
        """Have it do this. NodeFailed."""
        self._write(line)
        await self._answered()

    async def close(self) -> None:
        """An orderly end. NodeFailed."""
        self._write("close")
        if await asyncio.wait_for(self._process.wait(), END_SECONDS) != 0:
            raise self._failed("it did not end in order")

    async def crash(self) -> None:
        """The end that SIGKILL makes."""
        self._write("crash")
        await asyncio.wait_for(self._process.wait(), END_SECONDS)

    async def end(self) -> None:
        """Whatever happened, it is gone."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def _answered(self) -> None:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), START_SECONDS)
        if line.strip() != b"ok":
            raise self._failed("it did not answer")

    def _failed(self, what: str) -> NodeFailed:
        return NodeFailed(f"the recorded node: {what}\n{self._log.read_text()[-2_000:]}")


def _digests(disk: Path) -> dict[str, str]:
    return {
        str(path.relative_to(disk)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(disk.rglob("*"))
        if path.is_file()
    }


def _checked(seed: int, log: Path) -> Recording:
    """Play it once: the replayed disk must be the real one, byte by byte, at the end of each run."""
    disk, promises, records, ends = Disk(), Promises(), recorder.read(log), 0
    sent: dict[int, list[str]] = {}
    answered: Counter[str] = Counter()
    for entry in records:
        if entry.kind is not Kind.MARK:
            disk.apply(entry)
            continue
        kind, *fields = json.loads(entry.data)
        promises.apply(entry.data)
        if kind == "send":
            sent[fields[0]] = [places for _, places in fields[1]]
        elif kind == "done":
            answered.update(sent[fields[0]])
        elif kind == "disk":
            ends += 1
            files = disk.image(Model.ALL, random.Random(0)).files
            replayed = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
            if replayed != fields[0]:
                different = sorted(name for name, _ in replayed.items() ^ fields[0].items())
                raise ValueError(f"a write was not recorded: after run {ends} these differ: {', '.join(different)}")
    calls = Counter(entry.kind.name for entry in records)
    return Recording(seed, log, len(records), promises.accepted, dict(calls), dict(answered))
