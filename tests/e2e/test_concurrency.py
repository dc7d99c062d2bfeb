"""Reserved concurrency over three hosts under overload, while hosts and control come and go, as the handlers saw it."""

import functools
import os
import signal
import time
from collections.abc import Iterator

import grpc
import pytest
from evenflow.frontend.v1 import frontend_pb2
from evenflow.runtime.v1 import runtime_pb2

from tests.kit.fleet import Fleet
from tests.kit.waiting import wait_until
from tests.kit.witness import SOURCE, Witness, busy_ns, highest

pytestmark = pytest.mark.fleet
# How often everything happens; `make concurrency` says more.
ROUNDS = int(os.environ.get("CONCURRENCY_ROUNDS", "1"))
# Reserved concurrency of each function, and how many events it is sent: more than it can run while the test lasts.
RESERVED = {"one": 1, "two": 2, "fifty": 50}
EVENTS = {"one": 400 * ROUNDS, "two": 800 * ROUNDS, "fifty": 10_000 * ROUNDS}
RUN_SECONDS = 0.15
WINDOW_SECONDS = 1.0
MAX_WINDOWS = 4
LEAST_UTILISATION = 0.9
SETTLE_SECONDS = 20.0
HOSTS = {"runtime-0", "runtime-1", "runtime-2"}
MAX_BATCH = 1_000


@pytest.fixture(scope="module")
def witness() -> Iterator[Witness]:
    """What the handlers tell."""
    with Witness() as running:
        yield running


@pytest.fixture(scope="module")
def fleet(witness: Witness) -> Iterator[Fleet]:
    """Three hosts and two pollers, all functions under overload."""
    settings = {"control.heartbeat_interval_ms": "200", "runtime.memory_mb": "16384"}
    with Fleet(settings, arguments=["--pollers", "2", "--runtimes", "3"]) as running:
        environment = witness.environment(RUN_SECONDS)
        functions = {n: {"reserved_concurrency": most, "environment": environment} for n, most in RESERVED.items()}
        running.deploy_all(SOURCE, functions)
        with running.connect() as connection:
            for name, count in EVENTS.items():
                event = frontend_pb2.EventSubmission(function_name=name, payload=b"{}")
                for at in range(0, count, MAX_BATCH):
                    request = frontend_pb2.PublishBatchRequest(events=[event] * min(MAX_BATCH, count - at))
                    answer = connection.ask(connection.door.PublishBatch, request)
                    assert not any(result.HasField("error") for result in answer.results)
        yield running


def shares(fleet: Fleet, hosts: set[str]) -> dict[str, int]:
    """By function: what these hosts may run at once, as they know it; one that does not answer yet has nothing."""
    found = dict.fromkeys(RESERVED, 0)
    with fleet.connect() as connection:
        for host_id, host in connection.hosts().items():
            if host_id in hosts:
                try:
                    answer = connection.ask(host.DescribeHost, runtime_pb2.DescribeHostRequest())
                except grpc.RpcError:
                    continue
                for share in answer.shares:
                    name = share.limit_key.removeprefix("function/default/")
                    if name in found:
                        found[name] += share.share
    return found


def _is_past(at_ns: int) -> bool:
    return time.monotonic_ns() > at_ns


def check_window(fleet: Fleet, witness: Witness, hosts: set[str], expected: dict[str, int] | None = None) -> None:
    """From now on for a while: every share that these hosts have is in use, nearly all of the time.

    expected: what they have in all, when that is known; it may take a moment until they do.
    """

    def expected_shares() -> dict[str, int]:
        found = shares(fleet, hosts)
        return found if (expected or {}).items() <= found.items() else {}

    before = wait_until(expected_shares, SETTLE_SECONDS, f"shares of {expected}")

    def in_use() -> bool:
        return all(witness.running(name) >= LEAST_UTILISATION * share for name, share in before.items())

    # A machine that has something else to do for a while says nothing of the fleet: the best of a few windows counts.
    for _ in range(MAX_WINDOWS):
        # Sandboxes of a host that came back have to start; what is looked at for how long is what comes then.
        wait_until(in_use, SETTLE_SECONDS, f"{before} to be in use")
        from_ns = time.monotonic_ns()
        to_ns = from_ns + int(WINDOW_SECONDS * 1e9)
        wait_until(functools.partial(_is_past, to_ns), 5 * WINDOW_SECONDS, "the window's end")
        used = {name: busy_ns(witness.intervals(name), hosts, from_ns, to_ns) / (to_ns - from_ns) for name in before}
        if all(used[name] >= LEAST_UTILISATION * share for name, share in before.items()):
            break
    assert shares(fleet, hosts) == before
    assert all(used[name] >= LEAST_UTILISATION * share for name, share in before.items()), (used, before, hosts)


def test_reservations_hold_and_are_used_whatever_happens(fleet: Fleet, witness: Witness) -> None:
    """A host killed, another one frozen and let go on, control killed: never more than N, and 90 % of it used."""
    for _ in range(ROUNDS):
        check_window(fleet, witness, HOSTS, RESERVED)

        killed = fleet.kill("runtime-1")
        fleet.wait_restarted("runtime-1", killed)
        check_window(fleet, witness, HOSTS, RESERVED)

        fleet.kill("runtime-2", signal.SIGSTOP)
        try:
            check_window(fleet, witness, HOSTS - {"runtime-2"})
        finally:
            fleet.kill("runtime-2", signal.SIGCONT)
        check_window(fleet, witness, HOSTS, RESERVED)

        control = fleet.kill("control")
        check_window(fleet, witness, HOSTS)
        fleet.wait_restarted("control", control)
        check_window(fleet, witness, HOSTS, RESERVED)

    most = {name: highest(witness.intervals(name)) for name in RESERVED}
    assert most == RESERVED
