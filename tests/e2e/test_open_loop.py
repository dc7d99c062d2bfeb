"""The load driver is honest: a frozen door shows in its latencies, and a starved generator voids its run."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from evenflow.control.v1 import control_pb2, resources_pb2

from cli.commands.load import EXIT_VOID
from cli.commands.tenants import list_all
from loadtest.arrivals.shapes import Shape
from loadtest.open_loop import validity
from loadtest.open_loop.outcomes import CONNECTION
from loadtest.open_loop.result import LoadResult, from_json
from loadtest.open_loop.run import run
from loadtest.open_loop.spec import LoadSpec, Traffic
from loadtest.workloads import deploy
from loadtest.workloads.handler import BUCKET, RECORD, SUFFIX
from services.policy.accounts import DEFAULT_TENANT
from services.shared.channels import Peer, read_token
from tests.kit.fleet import Fleet, run_cli
from tests.kit.waiting import eventually, wait_until

FROZEN_SECONDS = 2.0
RUN_SECONDS = 4.0
# Each run's schedule has begun, and has answers from before the freeze.
BEFORE_SECONDS = 0.5
PER_SECOND = 50.0
# Of the run that is out of room soon after the freeze begins.
FEW_IN_FLIGHT = 5
CLOSED_PORT = 1

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(120)]


@pytest.fixture(scope="module", autouse=True)
def load_function(fleet: Fleet) -> Iterator[None]:
    asyncio.run(_put(fleet))
    yield
    with fleet.connect() as connection:
        control = connection.control
        made = [one.tenant_id for one in list_all(connection) if one.tenant_id.startswith("load-")]
        for tenant in (DEFAULT_TENANT, *made):
            function = control_pb2.DeleteFunctionRequest(tenant_id=tenant, function_name=deploy.FUNCTION)
            connection.ask(control.DeleteFunction, function)
        for tenant in made:
            connection.ask(control.DeleteTenant, control_pb2.DeleteTenantRequest(tenant_id=tenant))


async def _put(fleet: Fleet) -> None:
    (control,) = fleet.file.of_role("control").values()
    peer = Peer.dial(control.target, read_token(fleet.file.token_file))
    try:
        await deploy.put(peer)
    finally:
        await peer.close()


def spec_of(
    fleet: Fleet, number: int, door: str, per_second: float, seconds: float, callers: int = 0, in_flight: int = 2_000
) -> LoadSpec:
    return LoadSpec(
        host="127.0.0.1",
        http_port=fleet.http_port,
        grpc_port=fleet.grpc_port,
        door=door,
        traffic=Traffic(Shape("constant", per_second), seconds),
        run=number,
        records=str(fleet.data / "buckets" / BUCKET),
        status_per_second=10.0,
        callers=callers,
        in_flight=in_flight,
    )


async def test_a_frozen_door_shows_in_an_open_loop_and_hides_from_a_closed_one(fleet: Fleet, tmp_path: Path) -> None:
    """Both open loops go on sending while the frontend is stopped, and their p99 tells of it; so do the errors of the
    one that may not have many requests under way, which is the fleet's doing and does not make it void."""
    specs = {
        "http": spec_of(fleet, 1, "http", PER_SECOND, RUN_SECONDS),
        "grpc": spec_of(fleet, 2, "grpc", PER_SECOND, RUN_SECONDS),
        "few": spec_of(fleet, 6, "http", PER_SECOND, RUN_SECONDS, in_flight=FEW_IN_FLIGHT),
        "closed": spec_of(fleet, 3, "http", PER_SECOND, RUN_SECONDS, callers=1),
    }
    begun: list[int] = []
    runs = {name: asyncio.create_task(run(spec, tmp_path / name, began=begun.append)) for name, spec in specs.items()}
    try:
        await eventually(lambda: len(begun) == len(runs), 30.0, "all drivers to begin")
        await asyncio.sleep(BEFORE_SECONDS)
        pid = fleet.kill("frontend-0", signal.SIGSTOP)
        try:
            await asyncio.sleep(FROZEN_SECONDS)
        finally:
            os.kill(pid, signal.SIGCONT)
        found: dict[str, LoadResult] = {name: await task for name, task in runs.items()}
    finally:
        for task in runs.values():
            task.cancel()
        await asyncio.gather(*runs.values(), return_exceptions=True)
    for name in ("http", "grpc"):
        one = found[name]
        assert one.planned == one.sent == RUN_SECONDS * PER_SECOND, one
        assert one.accepted + sum(one.refused.values()) == one.sent
        # A third of the sends at the least fell into the freeze; the longest wait was all of it.
        for latency in (one.accept, one.start, one.settled):
            assert latency is not None
            assert latency.p99_ms >= 800 * FROZEN_SECONDS, (name, latency)
            assert latency.p90_ms >= 400 * FROZEN_SECONDS, (name, latency)
        assert (one.not_started, one.not_settled) == (0, 0)
    few = found["few"]
    assert few.dropped >= 0.5 * FROZEN_SECONDS * PER_SECOND, few
    assert few.error_part >= few.dropped / few.planned
    # A busy machine may make the driver late; what was dropped in time does not.
    assert all("late" in reason for reason in few.void) and (not few.void or few.late > 2), few
    closed = found["closed"]
    # By a count, not by a quantile: of one caller a single request at most fell into the freeze.
    assert closed.accept is not None and waits(closed, 800 * FROZEN_SECONDS) <= 1
    assert waits(found["http"], 800 * FROZEN_SECONDS) >= 5


def waits(found: LoadResult, least_ms: float) -> int:
    """How many answers surely took so long."""
    assert found.accept is not None
    # The lower edge of a bucket is the upper one of the bucket before.
    return sum(count for edge, count in found.accept.histogram if edge / 2**0.25 >= least_ms)


async def test_a_driver_that_was_stopped_voids_its_run(fleet: Fleet, tmp_path: Path) -> None:
    begun: list[int] = []
    running = asyncio.create_task(run(spec_of(fleet, 4, "http", 100.0, 2.0), tmp_path, began=begun.append))
    try:
        await eventually(lambda: begun, 30.0, "the driver to begin")
        await asyncio.sleep(0.3)
        (driver,) = drivers_of(tmp_path)
        driver.suspend()
        await asyncio.sleep(1.0)
        driver.resume()
        found = await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert found.planned == found.sent == 200
    assert found.late >= 50
    assert any("late" in reason for reason in found.void), found.void


async def test_a_generator_at_its_limit_voids_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for more than a core can do, of a door where nobody listens.

    The limit is lowered, since others may keep it from its core; the CPU time is a real process's.
    """
    monkeypatch.setattr(validity, "MAX_GENERATOR_CPU", 0.02)
    spec = LoadSpec(
        host="127.0.0.1",
        http_port=CLOSED_PORT,
        grpc_port=CLOSED_PORT,
        door="grpc",
        traffic=Traffic(Shape("constant", 20_000.0), 1.0),
        answer_seconds=5.0,
    )
    found = await run(spec, tmp_path)
    assert any("of a core" in reason for reason in found.void), (found.generator_cpu, found.void)
    assert found.sent + found.dropped == found.planned == 20_000
    assert found.accepted == 0 and set(found.refused) <= {CONNECTION}


async def test_a_cancelled_run_leaves_no_driver_behind(fleet: Fleet, tmp_path: Path) -> None:
    begun: list[int] = []
    running = asyncio.create_task(run(spec_of(fleet, 5, "http", 10.0, 60.0), tmp_path, began=begun.append))
    await eventually(lambda: begun, 30.0, "the driver to begin")
    assert drivers_of(tmp_path)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not drivers_of(tmp_path)


@pytest.mark.long
def test_the_command_drives_many_tenants(fleet: Fleet) -> None:
    """It puts the function where it is missing, and each tenant's events are the tenant's own."""
    told = ("--door", "stream", "--tenants", "2", "--noisy", "0.5", "--rate", "60", "--seconds", "1", "--json")
    done = run_cli("load", *told, data=fleet.data)
    assert done.returncode in (0, EXIT_VOID), done.stderr
    found = from_json(json.loads(done.stdout))
    assert (done.returncode == EXIT_VOID) == bool(found.void)
    assert found.accepted == found.planned and not found.refused
    assert found.not_started == 0
    # The noisy one, whose index is the last, has half of it: the hottest comes first.
    assert set(found.by_tenant) == {"0", "1", "2"} and next(iter(found.by_tenant)) == "2"
    assert sum(one["start"].count for one in found.by_tenant.values()) == found.planned
    with fleet.connect() as connection:
        assert {"load-0", "load-1", "load-2"} <= {one.tenant_id for one in list_all(connection)}


def test_a_function_that_is_not_there_ends_in_what_to_do(fleet: Fleet) -> None:
    done = run_cli("load", "--function", "nope", "--rate", "20", "--seconds", "0.5", data=fleet.data)
    assert done.returncode in (1, EXIT_VOID), done.stdout
    assert "there is no function 'nope': `evenflow deploy` it" in done.stderr and "Traceback" not in done.stderr


def drivers_of(folder: Path) -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if str(folder) in one.cmdline()]


@pytest.mark.long
def test_what_handlers_are_told_reaches_them(fleet: Fleet) -> None:
    """Synchronous, of two drivers; the function has the memory that its events ask for, or the handlers would fail."""
    told = ("--sync", "--drivers", "2", "--burn-ms", "20", "--allocate-mib", "200")
    found = command(fleet, *told, "--pad-bytes", "10", "--pad-bytes-max", "2000", "--rate", "20", "--seconds", "1")
    assert found.accepted == found.planned > 0, found
    assert found.handler_failures == found.not_started == 0
    # In no less time than they use the CPU.
    assert found.accept is not None and found.accept.p50_ms >= 20
    assert found.settled is None, "nothing is asked about synchronous events"
    assert function_of(fleet, deploy.FUNCTION).latest.memory_mb >= 200


@pytest.mark.long
def test_failures_are_tried_again_and_sent_on(fleet: Fleet) -> None:
    """Each event of the schedule runs twice, then a function gets it."""
    before = len(list(runs(fleet)))
    told = ("--fail-rate", "1", "--retries", "1", "--destination-on", "failure", "--destination-sleep-ms", "1")
    found = command(fleet, *told, "--rate", "10", "--seconds", "1", "--arrivals", "constant")
    assert found.accepted == found.planned == 10 and found.not_started == 0
    wait_until(lambda: len(list(runs(fleet))) - before == 20, 20.0, "the second run of each event")
    assert found.settled is not None and found.not_settled == 0
    latest = function_of(fleet, deploy.FUNCTION)
    assert latest.async_config.maximum_retry_attempts == 1
    assert latest.async_config.on_failure_arn.endswith(f":{deploy.DESTINATION}")
    assert function_of(fleet, deploy.DESTINATION).latest.handler == "destination.handler"
    with fleet.connect() as connection:
        request = control_pb2.DeleteFunctionRequest(tenant_id=DEFAULT_TENANT, function_name=deploy.DESTINATION)
        connection.ask(connection.control.DeleteFunction, request)


@pytest.mark.long
def test_a_trace_is_replayed(fleet: Fleet, tmp_path: Path) -> None:
    """Its handlers are busy as long as it says."""
    trace = tmp_path / "trace.csv"
    trace.write_text("app,func,end_timestamp,duration\n" + "".join(f"a,f,{at}.1,0.1\n" for at in range(20)))
    before = sum(end - begin > 99e6 for begin, end in runs(fleet))
    found = command(fleet, "--replay", str(trace), "--rate", "10", "--seconds", "1")
    assert found.accepted == found.planned == 10 and found.completed <= 10
    # A nanosecond's rounding left out.
    wait_until(lambda: sum(end - begin > 99e6 for begin, end in runs(fleet)) >= before + 10, 20.0, "busy handlers")


def function_of(fleet: Fleet, name: str) -> resources_pb2.Function:
    request = control_pb2.GetFunctionRequest(tenant_id=DEFAULT_TENANT, function_name=name)
    with fleet.connect() as connection:
        found: resources_pb2.Function = connection.ask(connection.control.GetFunction, request).function
        return found


def command(fleet: Fleet, *told: str) -> LoadResult:
    done = run_cli("load", *told, "--json", data=fleet.data)
    assert done.returncode in (0, EXIT_VOID), done.stderr
    return from_json(json.loads(done.stdout))


def runs(fleet: Fleet) -> Iterator[tuple[int, int]]:
    """Begin and end of every handler run, nanoseconds since the epoch."""
    for path in (fleet.data / "buckets" / BUCKET).glob(f"*{SUFFIX}"):
        data = path.read_bytes()
        for *_, begin, end in RECORD.iter_unpack(data[: len(data) - len(data) % RECORD.size]):
            yield begin, end
