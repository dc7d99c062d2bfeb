"""Provisioned concurrency on a host: kept ready, taken first, spilled over from, reported truly."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from evenflow.common.v1 import event_pb2

from tests.integration.runtime.kit import TENANT, HostKit
from tests.kit.waiting import eventually

S = event_pb2.OutcomeStatus
KEY = f"provisioned/{TENANT}/f/1"
TELL = """
import os, time
def handler(event, context):
    time.sleep(event or 0)
    return os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
"""


def publish(kit: HostKit, source: str = TELL, **changes: Any) -> None:
    """Version 1 of the function."""
    kit.deploy("f", source, **changes)
    assert kit.publish("f") == "1"


async def call(kit: HostKit) -> Any:
    """What version 1 says."""
    return await kit.call("f", version="1")


def target(kit: HostKit, count: int) -> None:
    """As control's share stream tells it."""
    kit.shares.set_target(KEY, count)
    kit.host.dispatcher.shares_changed()


def counted(kit: HostKit) -> tuple[int, int]:
    """Runs on what is kept ready, and beside it."""
    telemetry = kit.host.telemetry
    on, beside = telemetry.on_provisioned, telemetry.spilled_over
    labels = {"function": "f", "tenant": TENANT, "version": "1"}
    return int(on.value(**labels)), int(beside.value(**labels))


async def ready(kit: HostKit, count: int, within_seconds: float = 5.0) -> None:
    """Until so many are reported as held."""
    await eventually(lambda: kit.reported[-1:] == [(KEY, count)], within_seconds, f"{count} ready: {kit.reported}")


async def test_they_are_ready_before_anybody_asks_and_run_first(run_dir: Path) -> None:
    """Initialised as provisioned-concurrency; their runs are not cold."""
    async with HostKit(run_dir) as kit:
        publish(kit)
        target(kit, 3)
        await ready(kit, 3)
        outcomes = await asyncio.gather(*(kit.invoke("f", 0.05, version="1") for _ in range(3)))
        assert {o.response_payload for o in outcomes} == {b'"provisioned-concurrency"'}
        assert len({o.sandbox_id for o in outcomes}) == 3
        assert {o.init_duration_us for o in outcomes} == {0} and "Init Duration" not in kit.log("f")
        assert counted(kit) == (3, 0) and len(kit.pids()) == 3


async def test_what_they_cannot_take_spills_over(run_dir: Path) -> None:
    """To sandboxes on demand; all runs count against the account's share."""
    async with HostKit(run_dir, account_share=3) as kit:
        publish(kit)
        target(kit, 2)
        await ready(kit, 2)
        outcomes = await asyncio.gather(*(kit.invoke("f", 0.2, version="1") for _ in range(3)))
        kinds = sorted(o.response_payload for o in outcomes)
        assert kinds == [b'"on-demand"', b'"provisioned-concurrency"', b'"provisioned-concurrency"']
        assert counted(kit) == (2, 1)
        shares = dict(kit.shares.items())
        assert (shares[KEY].target, shares[KEY].held) == (2, 2) and shares["account"].in_use == 0


async def test_others_leave_them_the_share_that_they_may_need(run_dir: Path) -> None:
    """Of an account's share of 3, 2 kept ready: another function gets one, and they run at once all the same."""
    async with HostKit(run_dir, account_share=3, max_wait_ms=200) as kit:
        publish(kit)
        kit.deploy("other", TELL)
        target(kit, 2)
        await ready(kit, 2)
        others = [kit.begin(kit.invocation("other", 1)) for _ in range(3)]
        await eventually(lambda: kit.host.dispatcher.busy == 1)
        own = await asyncio.gather(*(kit.invoke("f", 0.05, version="1") for _ in range(2)))
        assert {o.response_payload for o in own} == {b'"provisioned-concurrency"'}
        statuses = sorted([(await other).status for other in others])
        assert statuses == [S.OUTCOME_STATUS_SUCCEEDED, S.OUTCOME_STATUS_THROTTLED, S.OUTCOME_STATUS_THROTTLED]


async def test_a_reservation_bounds_them_too(run_dir: Path) -> None:
    """Two kept ready and one reserved on this host: one runs at a time, on what is ready, and nothing is started."""
    async with HostKit(run_dir) as kit:
        publish(kit, reserved_concurrency=1)
        kit.shares.set_target(f"function/{TENANT}/f", 1)
        target(kit, 2)
        await eventually(lambda: dict(kit.reported).get(KEY) == 2)
        most = 0

        def look() -> bool:
            nonlocal most
            most = max(most, kit.host.dispatcher.busy)
            return all(run.done() for run in runs)

        runs = [kit.begin(kit.invocation("f", 0.02, version="1")) for _ in range(6)]
        await eventually(look)
        assert most == 1 and len(kit.pids()) == 2
        assert {(await run).response_payload for run in runs} == {b'"provisioned-concurrency"'}
        # The reservation is lifted: what rests is counted by the account from now on, and runs.
        kit.configuration.view.functions[TENANT, "f"].ClearField("reserved_concurrency")
        kit.publish("f")
        assert await call(kit) == "provisioned-concurrency"


async def test_neither_time_nor_others_end_them(run_dir: Path) -> None:
    """On demand sandboxes of another function come and go beside them; one too large for the rest is refused."""
    async with HostKit(run_dir, idle_seconds=0.05, memory_mb=512) as kit:
        publish(kit)
        target(kit, 3)
        await ready(kit, 3)
        kept = kit.pids()
        for name in ("a", "b", "c"):
            kit.deploy(name, TELL)
            assert await kit.call(name) == "on-demand"
        await eventually(lambda: kit.pids() == kept)
        kit.deploy("large", TELL, memory_mb=256)
        outcome = await kit.invoke("large")
        assert "384 MB are kept for provisioned concurrency" in outcome.error_message


async def test_room_is_made_for_them(run_dir: Path) -> None:
    """Idle ones of other functions give way, as to any start; what does not fit at all is told."""
    async with HostKit(run_dir, memory_mb=512) as kit:
        kit.deploy("other", TELL)
        await asyncio.gather(*(kit.invoke("other", 0.1) for _ in range(4)))
        publish(kit, memory_mb=256)
        target(kit, 3)
        await ready(kit, 2)
        assert kit.failures[KEY].startswith("1 of 3 sandboxes do not fit: function 'f' needs 256 MB")
        assert kit.host.dispatcher.memory_mb() == {"budget": 512, "used": 512, "provisioned": 512}
        # Of the same function, beside a target that cannot be kept: it waits for one of its own.
        assert await call(kit) == "provisioned-concurrency"


async def test_one_that_dies_is_replaced(run_dir: Path) -> None:
    """Killed while idle; the report falls and comes back."""
    async with HostKit(run_dir) as kit:
        publish(kit)
        target(kit, 2)
        await ready(kit, 2)
        await kit.invoke("f", version="1")
        before = kit.pids()
        ran = next(s for s in kit.host.dispatcher.nursery.sandboxes.values() if s.invocations)
        told = len(kit.reported)
        os.kill(ran.pid, signal.SIGKILL)
        # It is replaced sooner than anybody could look.
        await eventually(lambda: kit.reported[told:] == [(KEY, 1), (KEY, 2)])
        assert len(kit.pids() - before) == 1


async def test_a_lower_target_ends_the_rest_and_none_ends_all(run_dir: Path) -> None:
    """A busy one after its run."""
    async with HostKit(run_dir) as kit:
        publish(kit)
        target(kit, 3)
        await ready(kit, 3)
        running = [kit.begin(kit.invocation("f", 0.3, version="1")) for _ in range(2)]
        await eventually(lambda: kit.host.dispatcher.busy == 2)
        target(kit, 1)
        await ready(kit, 2)
        await asyncio.gather(*running)
        await ready(kit, 1)
        kit.shares.remove(KEY)
        kit.host.dispatcher.shares_changed()
        await ready(kit, 0)
        await eventually(lambda: not kit.pids())
        assert KEY not in dict(kit.shares.items())
        assert await call(kit) == "on-demand"


async def test_changes_of_latest_do_not_touch_them(run_dir: Path) -> None:
    """The very same sandboxes stay, and run what was published; $LATEST runs the new code."""
    async with HostKit(run_dir) as kit:
        publish(kit)
        target(kit, 2)
        await ready(kit, 2)
        kept, told = kit.pids(), len(kit.reported)
        kit.deploy("f", TELL.replace("return", "return 'new ' +"))
        assert await kit.call("f") == "new on-demand"
        assert await call(kit) == "provisioned-concurrency"
        assert kept < kit.pids() and kit.reported[told:] in ([], [("account", 100)])
        target(kit, 1)
        kit.publish("f")
        assert await kit.call("f", version="2") == "new on-demand"


async def test_a_function_made_anew_is_made_ready_in_place_of_the_old(run_dir: Path) -> None:
    """Its version 1 is another: what is idle of the old one ends at once, what is busy after its run."""
    async with HostKit(run_dir) as kit:
        publish(kit)
        target(kit, 2)
        await ready(kit, 2)
        old = kit.pids()
        running = kit.begin(kit.invocation("f", 0.3, version="1"))
        await eventually(lambda: kit.host.dispatcher.busy == 1)
        del kit.configuration.view.functions[TENANT, "f"]
        kit.deploy("f", TELL)
        kit.publish("f", description="another")
        await ready(kit, 2)
        assert await call(kit) == "provisioned-concurrency"
        assert (await running).response_payload == b'"provisioned-concurrency"'
        await eventually(lambda: len(kit.pids()) == 2 and not kit.pids() & old)
        assert kit.host.dispatcher.busy == 0


async def test_a_function_deleted_while_one_of_its_runs_is_ended_leaves_nothing_counted(run_dir: Path) -> None:
    """Its run timed out and it takes its time to die: what is told never falls below 0, and the host can drain."""
    async with HostKit(run_dir) as kit:
        ignores = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        deaf = ignores + TELL.replace("event or 0", "60")
        publish(kit, deaf, timeout_ms=100)
        target(kit, 1)
        await ready(kit, 1)
        dispatcher = kit.host.dispatcher
        (sandbox,) = dispatcher.nursery.sandboxes.values()
        running = kit.begin(kit.invocation("f", version="1"))
        await eventually(lambda: sandbox.state == "ending")
        assert sandbox.run is not None
        del kit.configuration.view.functions[TENANT, "f"]
        dispatcher.configuration_changed()
        assert (await running).error_type == "Sandbox.Timedout"
        await asyncio.wait_for(kit.host.drain(), 5)
        assert dispatcher.busy == 0 and kit.reported[-1] == (KEY, 0)
        assert min(held for _, held in kit.reported) == 0


async def test_a_handler_that_does_not_load_is_tried_again_later(run_dir: Path) -> None:
    """With a growing wait, and is never reported; who invokes it gets the error of a start of its own."""
    async with HostKit(run_dir) as kit:
        flag = run_dir / "data" / "buckets" / "b" / "fixed"
        from evenflow.control.v1 import resources_pb2

        source = f"import os\nif not os.path.exists(os.environ['EVENFLOW_BUCKET_B'] + '/{flag.name}'): 1 / 0\n" + TELL
        publish(kit, source, buckets=[resources_pb2.BucketGrant(bucket="b", writable=True)])
        target(kit, 1)
        (function,) = await eventually(kit.host.dispatcher.functions)
        await eventually(lambda: function.provisioned.failures == 1)
        assert kit.reported[-1] == (KEY, 0) and not kit.pids()
        assert kit.failures[KEY] == "loading the handler failed: ZeroDivisionError: division by zero"
        outcome = await kit.invoke("f", version="1")
        assert outcome.error_type == "ZeroDivisionError"
        assert function.provisioned.failures == 1
        flag.touch()
        await ready(kit, 1)
        assert function.provisioned.failures == 0 and kit.failures[KEY] == ""


async def test_a_target_may_come_before_the_function(run_dir: Path) -> None:
    """And outlives it: deployed again it is made ready again."""
    async with HostKit(run_dir) as kit:
        target(kit, 1)
        publish(kit)
        await ready(kit, 1)
        gone: Any = kit.configuration.view.functions.pop((TENANT, "f"))
        kit.host.dispatcher.configuration_changed()
        await ready(kit, 0)
        await eventually(lambda: not kit.pids())
        gone.revision += 100
        kit.configuration.view.functions[TENANT, "f"] = gone
        kit.host.dispatcher.configuration_changed()
        await ready(kit, 1)


async def test_the_targets_of_a_join_are_followed_together(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come one by one; each looks through all that there are."""
    async with HostKit(run_dir) as kit:
        followed = 0
        provisioned = kit.shares.provisioned

        def seen() -> dict[tuple[str, str, str], int]:
            nonlocal followed
            followed += 1
            return provisioned()

        monkeypatch.setattr(kit.shares, "provisioned", seen)
        for n in range(100):
            kit.shares.set_target(f"provisioned/{TENANT}/g{n}/1", 1)
            kit.host.dispatcher.shares_changed()
        await eventually(lambda: followed)
        assert followed == 1


async def test_a_host_that_drains_keeps_nothing_ready(run_dir: Path) -> None:
    """And says so."""
    async with HostKit(run_dir) as kit:
        publish(kit)
        target(kit, 2)
        await ready(kit, 2)
        await kit.host.drain()
        await ready(kit, 0)
        await eventually(lambda: not kit.pids())
