"""The load driver is honest: a frozen door shows in its latencies, and a starved generator voids its run."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from evenflow.control.v1 import control_pb2

from cli.commands.load import EXIT_VOID
from cli.commands.tenants import list_all
from loadtest.arrivals.shapes import Shape
from loadtest.open_loop import validity
from loadtest.open_loop.outcomes import CONNECTION
from loadtest.open_loop.result import LoadResult, from_json
from loadtest.open_loop.run import run
from loadtest.open_loop.spec import LoadSpec, Traffic
from loadtest.workloads import deploy
from loadtest.workloads.handler import BUCKET
from services.policy.accounts import DEFAULT_TENANT
from tests.kit.fleet import Fleet, run_cli
from tests.kit.waiting import eventually

FROZEN_SECONDS = 6.0
RUN_SECONDS = 10.0
# Each run's schedule has begun, and has answers from before the freeze.
BEFORE_SECONDS = 1.5
CLOSED_PORT = 1

pytestmark = pytest.mark.fleet


@pytest.fixture(scope="module", autouse=True)
def load_function(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("load")
    deploy.write_folder(folder)
    fleet.cli("deploy", str(folder))
    yield
    with fleet.connect() as connection:
        control = connection.control
        made = [one.tenant_id for one in list_all(connection) if one.tenant_id.startswith("load-")]
        for tenant in (DEFAULT_TENANT, *made):
            function = control_pb2.DeleteFunctionRequest(tenant_id=tenant, function_name=deploy.FUNCTION)
            connection.ask(control.DeleteFunction, function)
        for tenant in made:
            connection.ask(control.DeleteTenant, control_pb2.DeleteTenantRequest(tenant_id=tenant))


def spec_of(fleet: Fleet, number: int, door: str, per_second: float, seconds: float, callers: int = 0) -> LoadSpec:
    return LoadSpec(
        host="127.0.0.1",
        http_port=fleet.http_port,
        grpc_port=fleet.grpc_port,
        door=door,
        traffic=Traffic(Shape("constant", per_second), seconds),
        run=number,
        records=str(fleet.data / "buckets" / BUCKET),
        status_per_second=2.0,
        callers=callers,
    )


async def test_a_frozen_door_shows_in_an_open_loop_and_hides_from_a_closed_one(fleet: Fleet, tmp_path: Path) -> None:
    """Both open loops go on sending while the frontend is stopped, and their p99 tells of it."""
    specs = {
        "http": spec_of(fleet, 1, "http", 30.0, RUN_SECONDS),
        "grpc": spec_of(fleet, 2, "grpc", 30.0, RUN_SECONDS),
        "closed": spec_of(fleet, 3, "http", 30.0, RUN_SECONDS, callers=1),
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
        assert one.planned == one.sent == 300, one
        assert one.accepted + sum(one.refused.values()) == one.sent
        assert one.accept is not None and one.start is not None
        # A fifth of the sends at the least fell into the freeze, the longest wait was all of it.
        assert one.accept.p99_ms >= 4_000, one.accept
        assert one.accept.p90_ms >= 2_000, one.accept
        assert one.start.p99_ms >= 4_000, one.start
    closed = found["closed"]
    assert closed.accept is not None
    assert closed.accept.p90_ms < 2_000, "its caller asked nobody meanwhile, so that its quantiles hide it"


async def test_a_driver_that_was_stopped_voids_its_run(fleet: Fleet, tmp_path: Path) -> None:
    begun: list[int] = []
    running = asyncio.create_task(run(spec_of(fleet, 4, "http", 100.0, 3.0), tmp_path, began=begun.append))
    try:
        await eventually(lambda: begun, 30.0, "the driver to begin")
        await asyncio.sleep(0.5)
        (driver,) = drivers_of(tmp_path)
        driver.suspend()
        await asyncio.sleep(1.0)
        driver.resume()
        found = await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert found.planned == found.sent == 300
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


def test_the_command_drives_many_tenants(fleet: Fleet) -> None:
    """It puts the function where it is missing, and each tenant's events are the tenant's own."""
    told = ("--door", "stream", "--tenants", "2", "--noisy", "0.5", "--rate", "60", "--seconds", "1", "--json")
    done = run_cli("load", *told, data=fleet.data)
    assert done.returncode in (0, EXIT_VOID), done.stderr
    found = from_json(json.loads(done.stdout))
    assert (done.returncode == EXIT_VOID) == bool(found.void)
    assert found.accepted == found.planned and not found.refused
    # The noisy one, whose index is the last, has half of it: the hottest comes first.
    assert set(found.by_tenant) == {"0", "1", "2"} and next(iter(found.by_tenant)) == "2"
    assert sum(one["start"].count for one in found.by_tenant.values()) == found.planned
    with fleet.connect() as connection:
        assert {"load-0", "load-1", "load-2"} <= {one.tenant_id for one in list_all(connection)}


def test_the_command_says_what_is_wrong(fleet: Fleet) -> None:
    done = run_cli("load", "--warm-up", "99", data=fleet.data)
    assert done.returncode == 2 and "shorter" in done.stderr


def drivers_of(folder: Path) -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if str(folder) in one.cmdline()]
