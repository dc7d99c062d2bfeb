"""Looks at a fleet while a run is under way: depths, what is in flight, CPU by service."""

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import grpc

from loadtest.bench.processes import CpuTimes
from loadtest.plan import cpu
from loadtest.plan.measured import Sample
from loadtest.plan.site import Hosts, Shards, Site

INTERVAL_SECONDS = 0.5
# A run of an hour at the shortest interval.
MAX_LOOKS = 20_000


@dataclass(frozen=True, slots=True)
class Look:
    """One look. at: seconds since the epoch; times: CPU of the fleet's processes so far, by pid."""

    at: float
    shards: Shards
    hosts: Hosts
    times: Mapping[int, CpuTimes]


class Sampler:
    """Looks every `interval_seconds` inside `async with`. A node that does not answer in time costs one look.

    looks: in the order of time; marks: those that `also_at` asked for, apart, as they may be close to others.
    """

    def __init__(self, site: Site, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._site = site
        self._interval_seconds = interval_seconds
        self.looks: list[Look] = []
        self.marks: list[Look] = []
        self.missed = 0
        # CPU that the looks cost; what else this thread did while they waited for answers is in it.
        self.cost_seconds = 0.0
        self._looking: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Sampler":
        await self._look(self.looks)
        self._looking.append(asyncio.create_task(self._go_on(), name="sampler"))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for one in self._looking:
            one.cancel()
        for ended in await asyncio.gather(*self._looking, return_exceptions=True):
            if isinstance(ended, Exception) and kind is None:
                raise ended

    def also_at(self, at: float) -> None:
        """Look at this moment, too (epoch, s): between looks what changes is only guessed."""
        self._looking.append(asyncio.create_task(self._look_once(at), name="sampler's mark"))

    def all(self) -> list[Look]:
        """Looks and marks in the order of time."""
        return sorted((*self.looks, *self.marks), key=lambda look: look.at)

    async def _go_on(self) -> None:
        due = time.monotonic()
        while len(self.looks) < MAX_LOOKS:
            # A look that took long moves the next one: never two without a pause.
            due = max(due + self._interval_seconds, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            await self._look(self.looks)

    async def _look_once(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - time.time()))
        await self._look(self.marks)

    async def _look(self, looks: list[Look]) -> None:
        began = time.thread_time()
        try:
            shards = await self._site.shards()
            at, times = time.time(), self._site.times()
            hosts = await self._site.hosts()
        except grpc.aio.AioRpcError:
            self.missed += 1
            return
        self.cost_seconds += time.thread_time() - began
        looks.append(Look(at, shards, hosts, times))


def samples(looks: Sequence[Look], began: float, service_of: Callable[[int], str]) -> tuple[Sample, ...]:
    """The looks as samples of a run whose first intended send was at `began` (epoch, s); the first one only gives the
    CPU to count from. Pure."""
    used = [cpu.by_service(look.times, service_of) for look in looks]
    return tuple(
        Sample(
            at_seconds=round(now.at - began, 3),
            depths=tuple(now.shards.depths),
            leased=now.shards.leased,
            in_flight=now.hosts.in_flight,
            cpu_cores={
                name: round(seconds / (now.at - before.at), 4)
                for name, seconds in cpu.spent(used[index], used[index + 1]).items()
            },
            sandboxes=now.hosts.sandboxes,
        )
        for index, (before, now) in enumerate(itertools.pairwise(looks))
    )
