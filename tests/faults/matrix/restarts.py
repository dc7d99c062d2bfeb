"""Every service restarted in turn under load, with SIGTERM: of one version, and from one version to another."""

import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from services.frontend.submissions import draining
from tests.faults.matrix import releases
from tests.faults.matrix.cell import Cell
from tests.faults.matrix.client import CUT
from tests.faults.matrix.history import History, Ran
from tests.faults.matrix.releases import DOWNGRADE, NEWER, OLDER, UPGRADE
from tests.faults.matrix.rig import Rig

NODES = {
    "frontend": ("frontend-0",),
    "queue": ("queue-0", "queue-1"),
    "poller": ("poller-0", "poller-1"),
    "runtime": ("runtime-0", "runtime-1"),
    "control": ("control",),
}
# docs/operations.md, "Upgrading": who is called before who calls, so that what is new is never asked of who does not
# know it. Back again it is the other way round.
UPGRADE_ORDER = ("control", "queue", "runtime", "frontend", "poller")
# Between two nodes: each mix of versions carries events for some seconds.
BETWEEN_SECONDS = 3.0
_PER_SECOND = 120.0
# At most three times as many are sent: for eight restarts on a busy machine, and for what is between them.
_LOAD = {"per_second": _PER_SECOND, "events": 10_000}
MAX_TOLD = 5
# The only door ends: it says so to who has a connection.
DRAINING = f"gRPC: {draining().message}"


def _restart(rig: Rig, node_id: str) -> int:
    """SIGTERM: it drains, ends, and the supervisor starts it again. The new pid."""
    began, began_ns = time.monotonic(), time.time_ns()
    pid = rig.fleet.kill(node_id, signal.SIGTERM)
    rig.wait_serving(node_id, pid)
    rig.restarts.append((node_id, began_ns, time.time_ns()))
    rig.notes.append(f"{node_id} restarted in {time.monotonic() - began:.2f} s")
    return rig.fleet.pid_of(node_id)


def _restart_all(rig: Rig) -> None:
    for role in ("frontend", "poller", "runtime", "queue", "control"):
        for node_id in NODES[role]:
            _restart(rig, node_id)


@contextmanager
def _begin_with(rig: Rig, name: str) -> Iterator[None]:
    assert rig.releases is not None
    rig.releases.switch(name)
    yield


def _change_version(rig: Rig, before: str, after: str, order: tuple[str, ...]) -> None:
    found = rig.releases
    assert found is not None and rig.client is not None
    wrong = {n: version for n, pid in rig.fleet.pids().items() if (version := found.of(pid)) != before}
    assert not wrong, f"the fleet has to begin with the {before} version: {wrong}"
    found.switch(after)
    for role in order:
        for node_id in rig.draw.sample(NODES[role], len(NODES[role])):
            version = found.of(_restart(rig, node_id))
            assert version == after, f"{node_id} was to run the {after} version: {version}"
            rig.wait_acked(int(BETWEEN_SECONDS * _PER_SECOND))
            assert not rig.client.is_done, f"the load ended while {node_id} was restarted: too few events for the mixes"
    versions = Counter(found.of(pid) for pid in rig.fleet.pids().values())
    assert versions == {after: sum(map(len, NODES.values()))}, f"not all are of the {after} version: {versions}"
    rig.notes.append(f"{versions[after]} nodes went from the {before} to the {after} version; {', '.join(order)}")


def judge_accepts(rig: Rig, history: History) -> None:
    """0 failed accepts: what a client repeats is accepted; what it does not repeat fails only with its connection,
    or because the only door said that it is draining."""
    failed = [one for one in history.sent if one.has_token and not one.acked]
    if failed:
        words = "; ".join(f"{one.number}: {one.failure}" for one in failed[:MAX_TOLD])
        rig.broken.append(f"{len(failed)} events were not accepted though the client repeated them ({words})")
    alone = [one for one in history.sent if not one.has_token]
    causes = Counter(one.failure for one in alone if not one.acked)
    rig.notes.append(
        f"{len(history.sent) - len(alone)} events with a token, {len(failed)} not accepted; {len(alone)} sent once, "
        f"{causes.total()} not accepted{''.join(f'; {count} {cause!r}' for cause, count in causes.most_common())}"
    )
    answered = {cause: count for cause, count in causes.items() if not cause.startswith(CUT) and cause != DRAINING}
    if answered:
        rig.broken.append(f"events sent once failed though no connection was cut and no door drained: {answered}")
    rig.notes += _tell_repeats(rig, history)


def _tell_repeats(rig: Rig, history: History) -> list[str]:
    """What succeeded more than once, by the restart in which its first success ended."""
    successes: dict[bytes, list[Ran]] = defaultdict(list)
    for run in history.ran:
        if run.succeeded:
            successes[run.request_id].append(run)
    deliveries = {one.request_id: one.deliveries for one in history.ended}
    told: dict[tuple[str, str], list[float]] = defaultdict(list)
    for request_id, runs in successes.items():
        if len(runs) > 1:
            first, second, *_ = sorted(run.ended_ns for run in runs)
            during = next((node for node, began, ended in rig.restarts if began <= first <= ended), "no node")
            lease = "a lease that ended unsettled" if deliveries.get(request_id) else "no such lease"
            told[during, lease].append((second - first) / 1e9)
    return [
        f"{len(gaps)} succeeded again after the first success in the restart of {during}, {lease}; "
        f"{min(gaps):.1f} to {max(gaps):.1f} s later"
        for (during, lease), gaps in told.items()
    ]


CELLS = (
    Cell(
        "rolling-restart",
        "no accept fails but those that the client repeats; lost = 0",
        _restart_all,
        judge=judge_accepts,
    ),
    Cell(
        "rolling-upgrade",
        "from the version before to this one: no accept fails but those that the client repeats; lost = 0",
        lambda rig: _change_version(rig, OLDER, NEWER, UPGRADE_ORDER),
        before=lambda rig: _begin_with(rig, OLDER),
        judge=judge_accepts,
        load=_LOAD,
        needs=partial(releases.lacking, UPGRADE),
        version_step=UPGRADE,
    ),
    Cell(
        "rolling-downgrade",
        "back to the version before: no accept fails but those that the client repeats; lost = 0",
        lambda rig: _change_version(rig, NEWER, OLDER, UPGRADE_ORDER[::-1]),
        before=lambda rig: _begin_with(rig, NEWER),
        judge=judge_accepts,
        load=_LOAD,
        needs=partial(releases.lacking, DOWNGRADE),
        version_step=DOWNGRADE,
    ),
)
