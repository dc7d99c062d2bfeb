"""Versions on a host: each has code and sandboxes of its own; limits, log and usage are the function's."""

import asyncio
from pathlib import Path

import pytest
from evenflow.common.v1 import event_pb2

from services.shared.errors import Reason
from tests.integration.runtime.kit import TENANT, HostKit
from tests.kit.waiting import eventually

S = event_pb2.OutcomeStatus
WHO = """
import os, time
BORN = os.urandom(4).hex()
def handler(event, context):
    time.sleep(event or 0)
    names = ("AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE")
    return {
        "code": CODE, "born": BORN, "version": context.function_version, "arn": context.invoked_function_arn,
        "stream": context.log_stream_name, "environment": [os.environ[name] for name in names],
    }
"""


FILL = """
import os, time
def handler(event, context):
    with open("/tmp/large", "wb") as file:
        file.write(bytes(event << 20))
    # More than two looks at it.
    time.sleep(0.5)
    os.remove("/tmp/large")
"""


def coded(number: int) -> str:
    """Source that says which code it is."""
    return f"CODE = {number}\n{WHO}"


async def test_each_version_runs_its_own_code_and_knows_what_it_is(run_dir: Path) -> None:
    """In the context, the environment, the outcome, the log and the host's description."""
    async with HostKit(run_dir) as kit:
        for number in (1, 2, 3):
            kit.deploy("f", coded(number))
            if number < 3:
                assert kit.publish("f") == str(number)
        for version, code in (("1", 1), ("2", 2), ("$LATEST", 3), ("", 3)):
            outcome = await kit.invoke("f", version=version)
            said = await kit.call("f", version=version)
            named = version or "$LATEST"
            assert (said["code"], said["version"], outcome.executed_version) == (code, named, named)
            assert said["arn"] == f"arn:aws:lambda:eu-central-1:123456789012:function:f:{named}"
            assert said["environment"] == [named, "on-demand"]
            day, _, rest = said["stream"].partition("[")
            assert rest.startswith(f"{named}]runtime-0/") and day.count("/") == 3
        assert kit.log("f").count("Version: 1\n") == 2 and kit.log("f").count("Version: $LATEST\n") == 4
        assert {s.function.version_key for s in kit.host.dispatcher.nursery.sandboxes.values()} == {
            (TENANT, "f", "1"),
            (TENANT, "f", "2"),
            (TENANT, "f", "$LATEST"),
        }


async def test_a_change_of_latest_leaves_the_warm_ones_of_a_published_version(run_dir: Path) -> None:
    """$LATEST's are replaced; a change that is neither code nor configuration replaces nothing."""
    async with HostKit(run_dir) as kit:
        kit.deploy("f", coded(1))
        kit.publish("f")
        published, latest = await kit.call("f", version="1"), await kit.call("f")
        kit.publish("f")
        assert (await kit.call("f"))["born"] == latest["born"]
        kit.deploy("f", coded(2), reserved_concurrency=5)
        kit.shares.set_target(f"function/{TENANT}/f", 5)
        assert (await kit.call("f"))["code"] == 2
        assert (await kit.call("f", version="1"))["born"] == published["born"]


async def test_what_is_deleted_runs_no_more(run_dir: Path) -> None:
    """A version: its sandboxes end, the others stay. A version that never was and a function: refused, each by name."""
    async with HostKit(run_dir) as kit:
        kit.deploy("f", coded(1))
        kit.publish("f")
        kit.publish("f", description="second")
        for version in ("1", "2"):
            await kit.call("f", version=version)
        busy = kit.begin(kit.invocation("f", 0.2, version="1"))
        await eventually(lambda: kit.host.dispatcher.busy == 1)
        kit.unpublish("f", "1")
        assert (await busy).status == S.OUTCOME_STATUS_SUCCEEDED
        await eventually(lambda: len(kit.pids()) == 1)
        kit.configuration.control[TENANT, "f"] = kit.configuration.view.functions[TENANT, "f"]
        for version in ("1", "7"):
            refused = await kit.invoke("f", version=version)
            assert refused.refusal.reason == Reason.ERROR_REASON_FUNCTION_NOT_FOUND
            assert refused.error_message == f"'f' has no version '{version}'"
        assert (await kit.call("f", version="2"))["code"] == 1
        kit.delete("f")
        await eventually(lambda: not kit.pids())
        kit.configuration.control.clear()
        assert "no function 'f' is deployed" in (await kit.invoke("f", version="2")).error_message


async def test_a_reservation_is_shared_by_the_versions(run_dir: Path) -> None:
    """Two versions of a function with one reserved: never two at a time, and each has its turn."""
    async with HostKit(run_dir) as kit:
        kit.deploy("f", coded(1), reserved_concurrency=1)
        kit.publish("f")
        key = f"function/{TENANT}/f"
        kit.shares.set_target(key, 1)
        most = 0

        def look() -> bool:
            nonlocal most
            most = max(most, kit.host.dispatcher.busy)
            return all(run.done() for run in runs)

        runs = [kit.begin(kit.invocation("f", 0.02, version=version)) for version in ("1", "$LATEST") * 5]
        await eventually(look)
        assert most == 1 and dict(kit.shares.items())[key].in_use == 0
        assert {(await run).status for run in runs} == {S.OUTCOME_STATUS_SUCCEEDED}
        rows = {key: row.invocations for _, key, row in kit.host.usage.rows(0)}
        assert rows == {(TENANT, "f"): 10}


@pytest.mark.parametrize("snap_start", [False, True])
async def test_a_version_starts_from_a_template_of_its_own(run_dir: Path, snap_start: bool) -> None:
    """What SnapStart loaded for one version is not what another runs."""
    async with HostKit(run_dir, max_wait_ms=20_000) as kit:
        for number in (1, 2):
            kit.deploy("f", coded(number), snap_start=snap_start)
            kit.publish("f")
        runs = (kit.call("f", 0.1, version=version) for version in ("1", "2", "1", "2"))
        assert [one["code"] for one in await asyncio.gather(*runs)] == [1, 2, 1, 2]


async def test_a_function_says_how_large_its_tmp_is(run_dir: Path) -> None:
    """By version, in place of the host's setting."""
    async with HostKit(run_dir, tmp_mb=8) as kit:
        kit.deploy("f", FILL, ephemeral_storage_mb=24)
        kit.publish("f", ephemeral_storage_mb=0)
        assert (await kit.invoke("f", 12)).status == S.OUTCOME_STATUS_SUCCEEDED
        small = await kit.invoke("f", 12, version="1")
        assert "its /tmp was over its size" in small.error_message
        assert "its /tmp was over its size" in (await kit.invoke("f", 30)).error_message


async def test_a_function_scales_no_faster_than_it_may(run_dir: Path) -> None:
    """Two starts in ten seconds, all versions together: the rest is throttled, those that are there go on."""
    async with HostKit(run_dir, starts_per_10_seconds=2) as kit:
        kit.deploy("f", coded(1))
        kit.publish("f")
        wait = {"max_wait_ms": 200}
        runs = [kit.begin(kit.invocation("f", 0.5, version=v, **wait)) for v in ("1", "$LATEST", "1", "$LATEST")]
        outcomes = [await run for run in runs]
        refused = [o for o in outcomes if o.status == S.OUTCOME_STATUS_THROTTLED]
        assert [o.status for o in outcomes if o not in refused] == [S.OUTCOME_STATUS_SUCCEEDED] * 2
        assert {o.refusal.reason for o in refused} == {Reason.ERROR_REASON_CONCURRENCY_EXCEEDED}
        assert "'f' started its part of 2 sandboxes in 10 seconds" in refused[0].error_message
        kit.deploy("g", coded(2))
        assert (await kit.call("g"))["code"] == 2
