"""Followers: the snapshot in parts, changes in order, a restart, and one that does not read."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from evenflow.control.v1 import control_pb2, resources_pb2

from services.control.control import Control
from services.control.feed import MAX_PART_BYTES
from services.shared.channels import Peer
from services.shared.errors import EvenflowError, Reason
from services.shared.follower import ControlFollower
from tests.integration.control.kit import TOKEN, Client, client, function_of, nodes, package, running
from tests.kit.waiting import eventually


def many_functions(count: int, padding: int = 1_500) -> list[resources_pb2.Resource]:
    found = []
    for i in range(count):
        function = function_of(f"f{i:05d}", b"x" * 32, environment={"PADDING": "p" * padding})
        found.append(resources_pb2.Resource(key=f"function/default/f{i:05d}", function=function))
    return found


async def seed(control: Control, resources: list[resources_pb2.Resource]) -> None:
    """Many functions in one change."""
    await control.changes.run(lambda change: change.upserts.extend(resources))


def watch(c: Client) -> Any:
    return c.stub.Watch(control_pb2.WatchRequest(node_id="cli"), metadata=c.peer.metadata)


async def test_a_snapshot_of_5000_functions_arrives_whole_in_parts(run_dir: Path) -> None:
    """Every part within its bound, only the last one complete; then changes, revisions growing."""
    async with running(run_dir) as control, client(run_dir) as c:
        resources = many_functions(5_000)
        await seed(control, resources)
        call = watch(c)
        parts: list[control_pb2.WatchResponse] = []
        while not parts or not parts[-1].snapshot_complete:
            parts.append(await call.read())
        assert len(parts) >= 2 and all(part.in_snapshot for part in parts)
        assert max(part.ByteSize() for part in parts) <= 3.5 * (1 << 20)
        keys = [r.key for part in parts for r in part.upserts]
        assert len(keys) == len(set(keys)) and {r.key for r in resources} < set(keys)
        assert {"fleet", "shard-map", "tenant/default"} < set(keys)
        last = parts[-1].revision
        code = await c.upload(package())
        for i in range(5):
            await c.put("f00001", code, timeout_ms=1_000 + i)
            change = await call.read()
            assert change.revision == last + 1 and not change.in_snapshot
            assert change.upserts[0].function.revision == change.revision
            last = change.revision
        await c.call("DeleteFunction", control_pb2.DeleteFunctionRequest(tenant_id="default", function_name="f00001"))
        change = await call.read()
        assert list(change.deleted_keys) == ["function/default/f00001"]
        call.cancel()


async def test_a_follower_that_does_not_read_is_cut_and_starts_afresh(run_dir: Path) -> None:
    """Its backlog is bounded, others go on, and a new stream has everything."""
    async with running(run_dir, follower_backlog=8) as control, client(run_dir) as slow, client(run_dir) as c:
        await seed(control, many_functions(2_000))
        stuck = watch(slow)
        first = await stuck.read()
        assert first.in_snapshot and first.ByteSize() <= MAX_PART_BYTES + 64
        lively = watch(c)
        while not (await lively.read()).snapshot_complete:
            pass
        # Enough that no buffer on the way holds it all.
        for i in range(60):
            await seed(control, many_functions(1_500, padding=1_500 + i))
            assert len((await lively.read()).upserts) == 1_500
            if control.feed.cut_total:
                break
        await eventually(lambda: control.feed.cut_total == 1 and len(control.feed.followers) == 1)
        with pytest.raises(grpc.aio.AioRpcError) as cut:
            while await stuck.read() is not grpc.aio.EOF:
                pass
            raise grpc.aio.AioRpcError(
                await stuck.code(),
                await stuck.initial_metadata(),
                await stuck.trailing_metadata(),
                await stuck.details(),
            )
        assert EvenflowError.from_rpc_error(cut.value).reason == Reason.ERROR_REASON_UNAVAILABLE
        again = watch(slow)
        keys: set[str] = set()
        while True:
            part = await again.read()
            keys |= {r.key for r in part.upserts}
            if part.snapshot_complete:
                break
        assert keys == set(control.state.resources)
        again.cancel()
        lively.cancel()


async def test_too_many_followers_are_refused(run_dir: Path) -> None:
    """With the setting named."""
    async with running(run_dir, max_followers=1), client(run_dir) as c:
        first = watch(c)
        await first.read()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            second = watch(c)
            async for _ in second:
                pass
        error = EvenflowError.from_rpc_error(refused.value)
        assert error.reason == Reason.ERROR_REASON_NO_CAPACITY and "control.max_followers" in error.message
        first.cancel()


async def test_the_shared_follower_sees_changes_members_and_a_restart(run_dir: Path) -> None:
    """Its view is what control has, before and after; while control is away it keeps what it knew."""
    peer = Peer.dial(f"unix:{run_dir}/control.sock", TOKEN)
    follower = ControlFollower(peer, "queue-0", run_dir / "snapshots" / "queue-0.bin")
    try:
        async with nodes() as start:
            async with running(run_dir) as control, client(run_dir) as c:
                follower.start()
                async with asyncio.timeout(10):
                    await follower.wait_ready()
                assert follower.view.fleet == control.state.fleet
                assert list(follower.view.shard_map.owner_node_ids) == ["queue-0"] * 8  # type: ignore[union-attr]
                code = await c.upload(package())
                await c.put("f", code)
                await start(run_dir, "runtime-0", slots=4)
                await eventually(lambda: "runtime-0" in follower.view.members and follower.view.functions)
                fleet_id, revision = control.state.fleet.fleet_id, control.state.revision
            assert ("default", "f") in follower.view.functions
            async with running(run_dir) as control, client(run_dir) as c:
                assert control.state.fleet.fleet_id == fleet_id and control.state.revision >= revision
                await c.put("g", code)
                await eventually(lambda: ("default", "g") in follower.view.functions, within_seconds=10)
                assert follower.view.revision > revision
                found = await follower.ask_function("default", "f")
                assert found is not None and found.latest.code_sha256 == code
                assert await follower.ask_function("default", "nobody") is None
    finally:
        await follower.stop()
        await peer.close()
