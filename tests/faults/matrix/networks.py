"""Calls between services that are dropped, delayed, cut one way or half open."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults.matrix.cell import Cell, Inject
from tests.faults.matrix.rig import LEASE_SECONDS, Rig
from tests.kit.interposer import Interposer

CUTS = 5
BETWEEN_EVENTS = 500
DELAY_SECONDS = 0.3
# Longer than a lease and than what keepalive allows a silent peer.
SILENCE_SECONDS = 3 * LEASE_SECONDS
_NODES = {"queue": ("queue-0", "queue-1"), "runtime": ("runtime-0", "runtime-1"), "frontend": ("frontend-0",)}


@contextlib.contextmanager
def proxy_of(role: str, rig: Rig) -> Iterator[Interposer]:
    """A proxy in front of one node of the role, and every caller through it: those are started anew."""
    node_id = rig.draw.choice(_NODES[role])
    rig.notes.append(f"calls to {node_id}")
    with Interposer(Path(rig.fleet.file.nodes[node_id].target.removeprefix("unix:"))) as proxy:
        for caller in sorted({"frontend-0", "poller-0", "poller-1"} - {node_id}):
            pid = rig.fleet.kill(caller)
            rig.wait_serving(caller, pid)
        yield proxy


def _during(fault: Callable[[Rig, Interposer], None]) -> Inject:
    def inject(rig: Rig) -> None:
        proxy: Interposer = rig.around
        fault(rig, proxy)
        proxy.heal()
        rig.wait_acked(BETWEEN_EVENTS)

    return inject


def _cut(rig: Rig, proxy: Interposer) -> None:
    for _ in range(CUTS):
        proxy.cut()
        rig.wait_acked(BETWEEN_EVENTS // 2)


def _delay(rig: Rig, proxy: Interposer) -> None:
    proxy.delay(DELAY_SECONDS)
    rig.wait_acked(2 * BETWEEN_EVENTS)


def _silence(*, requests: bool, answers: bool) -> Callable[[Rig, Interposer], None]:
    def fault(_rig: Rig, proxy: Interposer) -> None:
        proxy.swallow(requests=requests, answers=answers)
        # The silence itself is the fault.
        time.sleep(SILENCE_SECONDS)

    return fault


def _refuse(rig: Rig, proxy: Interposer) -> None:
    """Records for functions go in through a door's own socket: nobody is there while events go on to fail."""
    proxy.refuse()
    rig.wait_acked(2 * BETWEEN_EVENTS)
    waiting = [row["handovers"] for row in rig.shards()]
    rig.notes.append(f"{sum(waiting)} handovers waited while their destination was down")
    if not any(waiting):
        rig.broken.append("nothing waited for the destination: the fault did not happen")


_KINDS: dict[str, tuple[str, Callable[[Rig, Interposer], None]]] = {
    "dropped": ("unknown outcomes are sent again under the same id", _cut),
    "delayed": ("slower, and nothing else", _delay),
    "answers-lost": (
        "a one-way cut ends in time-outs, and what was stored is one row",
        _silence(requests=False, answers=True),
    ),
    "half-open": ("keepalive and deadlines end it", _silence(requests=True, answers=True)),
}
CELLS = (
    *(
        Cell(f"{kind}-{role}", expected, _during(fault), around=functools.partial(proxy_of, role))
        for role in ("queue", "runtime")
        for kind, (expected, fault) in _KINDS.items()
    ),
    Cell(
        "destination-down",
        "an event is kept until its record was taken",
        _during(_refuse),
        around=functools.partial(proxy_of, "frontend"),
        load={"fails": 0.2},
    ),
)
