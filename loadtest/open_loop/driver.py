"""One driver in a process of its own: `python -m loadtest.open_loop.driver FOLDER INDEX`, as `drivers` starts it.

It reads FOLDER/spec.json and FOLDER/schedule-INDEX.npz, makes FOLDER/ready-INDEX once it could begin, takes the moment
to begin at (nanoseconds of the monotonic clock) from its standard input, and leaves FOLDER/part-INDEX.npz. When its
standard input closes, whoever started it is gone, and so is it.
"""

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from loadtest.arrivals.arrivals import Arrivals
from loadtest.open_loop import files, outcomes, spec
from loadtest.open_loop.callers import Callers
from loadtest.open_loop.doors.door import Door, make_door
from loadtest.open_loop.outcomes import Outcomes, Part
from loadtest.open_loop.pace import send_on_time
from loadtest.open_loop.spec import LoadSpec
from loadtest.workloads.work import payload

# Requests, as they are stored, that are made before the begin; those beyond are made when they are
# sent, at the generator's cost.
AHEAD_BYTES = 256 << 20
EXPIRE_SECONDS = 0.5
# Where it may, a driver goes before the fleet that it shares a machine with: one that waits for a core measures itself.
PRIORITY = -10
EXIT_ORPHANED = 3


class Requests:
    """What is sent, by the event's place; made ahead as far as AHEAD_BYTES go."""

    def __init__(self, told: LoadSpec, part: Arrivals, door: Door) -> None:
        self._spec = told
        self._door = door
        self._numbers: list[int] = part.numbers.tolist()
        self._tenants: list[int] = part.tenants.tolist()
        self._work_ms: list[float] = part.work_ms.tolist()
        self._ahead: list[bytes] = []
        size_bytes = 0
        for place in range(len(part)):
            if size_bytes > AHEAD_BYTES:
                break
            request = door.request(self._tenants[place], self._payload(place))
            size_bytes += sys.getsizeof(request)
            self._ahead.append(request)

    def of(self, place: int) -> tuple[int, bytes]:
        """Tenant and request."""
        tenant = self._tenants[place]
        if place < len(self._ahead):
            return tenant, self._ahead[place]
        return tenant, self._door.request(tenant, self._payload(place))

    def _payload(self, place: int) -> bytes:
        return payload(self._spec.work, self._spec.run, self._numbers[place], self._work_ms[place])


class Cpu:
    """CPU time of this process over the counted part."""

    def __init__(self) -> None:
        self.part = 0.0

    async def measure(self, begins_ns: int, ends_ns: int) -> None:
        """Between these moments of the monotonic clock."""
        await _until(begins_ns)
        before_ns, cpu_before_seconds = time.monotonic_ns(), time.process_time()
        await _until(ends_ns)
        self.part = (time.process_time() - cpu_before_seconds) * 1e9 / (time.monotonic_ns() - before_ns)


async def drive(told: LoadSpec, part: Arrivals, sampled: Sequence[int], index: int, folder: Path) -> Part:
    """One driver's part of a run. sampled: numbers of the events whose request ids are remembered."""
    found = Outcomes(told.status_per_second / told.drivers if not told.synchronous else 0.0)
    door = make_door(told, max(1, told.in_flight // told.drivers), found)
    requests = None if told.callers else Requests(told, part, door)
    await door.open()
    # What was made ahead stays: the collector need not walk it again and again.
    gc.collect()
    gc.freeze()
    (folder / files.ready(index)).touch()
    begin_ns = await _told_begin()
    ends_ns = begin_ns + int(told.traffic.seconds * 1e9)
    found.begin_ns = begin_ns
    found.sample_from(int(told.warm_up_seconds * 1e9))
    cpu = Cpu()
    beside = [
        asyncio.create_task(cpu.measure(begin_ns + int(told.warm_up_seconds * 1e9), ends_ns)),
        asyncio.create_task(_expire(door)),
    ]
    try:
        if requests is not None:
            await _send_schedule(requests, part, sampled, door, found, begin_ns)
        else:
            await _until(begin_ns)
            callers = len(range(index, told.callers, told.drivers))
            make = _payload_maker(told)
            await Callers(told, part, door, found, make, index, told.drivers).run(callers, ends_ns)
        await beside[0]
        await found.wait_answered(told.answer_seconds)
        return found.part(cpu.part)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await door.close()


async def _send_schedule(
    requests: Requests, part: Arrivals, sampled: Sequence[int], door: Door, found: Outcomes, begin_ns: int
) -> None:
    due_ns: Sequence[int] = (part.at_seconds * 1e9).astype("int64").tolist()
    found.plan(part.numbers.tolist(), part.tenants.tolist(), due_ns, sampled)

    def send(place: int) -> None:
        tenant, request = requests.of(place)
        if not door.send(place, tenant, request):
            found.dropped(place)

    await send_on_time(due_ns, begin_ns, send)


def _payload_maker(told: LoadSpec) -> Any:
    return lambda number, work_ms: payload(told.work, told.run, number, work_ms)


async def _until(moment_ns: int) -> None:
    await asyncio.sleep(max(0, moment_ns - time.monotonic_ns()) / 1e9)


async def _expire(door: Door) -> None:
    while True:
        await asyncio.sleep(EXPIRE_SECONDS)
        door.expire(time.monotonic_ns())


async def _told_begin() -> int:
    """The line on standard input; its end, then or later, is this process's end."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[int] = loop.create_future()
    line = b""

    def on_input() -> None:
        nonlocal line
        data = os.read(0, 4_096)
        if not data:
            os._exit(EXIT_ORPHANED)
        line += data
        if line.endswith(b"\n") and not told.done():
            told.set_result(int(line))

    loop.add_reader(0, on_input)
    return await told


def main() -> None:
    """Run one driver to its end."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    except PermissionError:
        pass
    folder, index = Path(sys.argv[1]), int(sys.argv[2])
    told = spec.from_json(json.loads((folder / files.SPEC).read_text()))
    part, sampled = files.load_schedule(folder / files.schedule(index))
    outcomes.save(uvloop.run(drive(told, part, sampled.tolist(), index, folder)), folder / files.part(index))


if __name__ == "__main__":
    main()
