"""Nodes that join, fall silent, leave, come back and are replaced: the shared membership against a real control."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from evenflow.control.v1 import control_pb2, control_pb2_grpc, resources_pb2

from services.control.control import Control
from services.shared.errors import EvenflowError, Reason
from tests.integration.control.kit import Node, bucket_source, client, error_of, nodes, package, running
from tests.kit.waiting import eventually


def bounds(control: Control) -> dict[tuple[str, str], int]:
    return {key: row.share.bound for key, row in control.ledger.rows.items()}


def hello(run_dir: Path, **changes: object) -> control_pb2.JoinRequest:
    fields = {"node_id": "runtime-0", "role": "NODE_ROLE_RUNTIME", "incarnation": "i1", "address": "unix:/x", **changes}
    return control_pb2.JoinRequest(hello=control_pb2.JoinHello(**fields))  # type: ignore[arg-type]


async def test_a_node_joins_falls_silent_and_is_heard_again(run_dir: Path) -> None:
    """Three missed heartbeats make it unreachable, shares kept; a word makes it alive."""
    async with running(run_dir) as control, client(run_dir) as c, nodes() as start:
        node: Node = await start(run_dir, "runtime-0", slots=8)
        assert node.membership.fleet_id == control.state.fleet.fleet_id
        await eventually(lambda: node.targets == {"account": 8}, what="the first target")
        assert await c.members() == {"runtime-0": "ALIVE"}

        await node.membership._link.close()
        await eventually(lambda: control.state.members["runtime-0"].state == resources_pb2.MEMBER_STATE_UNREACHABLE)
        assert bounds(control) == {("account", "runtime-0"): 8}

        node.membership._link.start()
        await eventually(lambda: control.state.members["runtime-0"].state == resources_pb2.MEMBER_STATE_ALIVE)
        assert bounds(control) == {("account", "runtime-0"): 8}


async def test_a_node_that_leaves_gives_its_share_to_others_and_is_gone(run_dir: Path) -> None:
    """Leaving takes its share back as runs end; the clean end of its stream makes it gone."""
    async with running(run_dir, account_concurrency=10) as control, client(run_dir) as c, nodes() as start:
        a: Node = await start(run_dir, "runtime-0", slots=10)
        await eventually(lambda: a.targets == {"account": 10})
        a.in_use = 7
        b: Node = await start(run_dir, "runtime-1", slots=10)
        await eventually(lambda: b.targets == {"account": 3}, what="what a does not use")
        a.membership.leave()
        await eventually(lambda: a.targets == {"account": 0})
        assert (await c.members())["runtime-0"] == "LEAVING"
        a.in_use = 0
        a.report("account")
        await eventually(lambda: b.targets == {"account": 10}, what="all that a returned")
        await a.membership.stop()
        await eventually(lambda: control.state.members["runtime-0"].state == resources_pb2.MEMBER_STATE_GONE)
        assert bounds(control) == {("account", "runtime-1"): 10}


async def test_a_new_incarnation_frees_what_the_dead_one_held_and_shuts_it_out(run_dir: Path) -> None:
    """The old stream ends, its share is free at once, and the old start can never come back."""
    async with running(run_dir, account_concurrency=10) as control, nodes() as start:
        old: Node = await start(run_dir, "runtime-0", slots=10)
        await eventually(lambda: old.targets == {"account": 10})
        other: Node = await start(run_dir, "runtime-1", slots=10)
        old.in_use = 10
        new: Node = await start(run_dir, "runtime-0", slots=10, incarnation="i2")
        await eventually(lambda: new.targets == {"account": 5} and other.targets == {"account": 5})
        assert control.state.members["runtime-0"].incarnation == "i2"
        with pytest.raises(EvenflowError, match="start it anew") as refused:
            await join_once(old, hello(run_dir))
        assert refused.value.reason == Reason.ERROR_REASON_RESOURCE_CONFLICT

    async with running(run_dir), nodes() as start:
        with pytest.raises(EvenflowError, match="start it anew"):
            node = Node(run_dir, "runtime-0")
            try:
                await join_once(node, hello(run_dir))
            finally:
                await node.stop()


async def join_once(node: Node, first: control_pb2.JoinRequest) -> None:
    """One Join stream, to its end."""
    call = control_pb2_grpc.ControlServiceStub(node.peer.channel).Join(metadata=node.peer.metadata)
    try:
        await call.write(first)
        while await call.read() is not grpc.aio.EOF:
            pass
        if await call.code() is not grpc.StatusCode.OK:
            raise await error_of(call)
    except grpc.aio.AioRpcError as e:
        raise EvenflowError.from_rpc_error(e) from None
    finally:
        call.cancel()


async def test_a_bad_hello_is_refused(run_dir: Path) -> None:
    """Each field in its bounds, and hello first."""
    async with running(run_dir) as control:
        node = Node(run_dir, "x")
        try:
            for first, text in (
                (hello(run_dir, node_id="Runtime 0"), "node_id"),
                (hello(run_dir, node_id=""), "node_id"),
                (hello(run_dir, role="NODE_ROLE_UNSPECIFIED"), "no role"),
                (hello(run_dir, incarnation=""), "incarnation"),
                (hello(run_dir, address="a" * 513), "address"),
                (hello(run_dir, slots=1_000_001), "slots"),
                (control_pb2.JoinRequest(heartbeat=control_pb2.Heartbeat()), "must be hello"),
            ):
                with pytest.raises(EvenflowError, match=text) as refused:
                    await join_once(node, first)
                assert refused.value.reason == Reason.ERROR_REASON_INVALID_PARAMETER
            assert not control.state.members
        finally:
            await node.stop()


async def test_a_reservation_moves_from_the_account_to_the_function_and_back(run_dir: Path) -> None:
    """Given out once the account's share was returned; lifted with `removed`."""
    async with running(run_dir, account_concurrency=110) as control, client(run_dir) as c, nodes() as start:
        await c.put("f", await c.upload(package()))
        host: Node = await start(run_dir, "runtime-0", slots=200)
        await eventually(lambda: host.targets == {"account": 110})
        host.in_use = 110
        name: dict[str, Any] = {"tenant_id": "default", "function_name": "f"}
        await c.call("PutConcurrency", control_pb2.PutConcurrencyRequest(**name, reserved_concurrency=10))
        await eventually(lambda: host.targets == {"account": 100})
        assert bounds(control) == {("account", "runtime-0"): 110}
        host.in_use = 0
        host.report("account")
        await eventually(lambda: host.targets == {"account": 100, "function/default/f": 10})
        await c.call("PutConcurrency", control_pb2.PutConcurrencyRequest(**name))
        await eventually(lambda: host.targets == {"account": 110, "function/default/f": 0})
        assert host.removed == ["function/default/f"]
        await eventually(lambda: bounds(control) == {("account", "runtime-0"): 110})


async def test_shares_survive_a_restart_of_control(run_dir: Path) -> None:
    """An unreachable host's share still counts after the restart, until it is proven dead."""
    async with running(run_dir, account_concurrency=10), nodes() as start:
        lost: Node = await start(run_dir, "runtime-0", slots=10)
        await eventually(lambda: lost.targets == {"account": 10})
        await lost.membership._link.close()
    async with running(run_dir) as control, nodes() as start:
        other: Node = await start(run_dir, "runtime-1", slots=10)
        await eventually(lambda: control.state.members["runtime-0"].state == resources_pb2.MEMBER_STATE_UNREACHABLE)
        assert not other.targets
        back: Node = await start(run_dir, "runtime-0", slots=10, incarnation="i2")
        await eventually(lambda: other.targets == {"account": 5} and back.targets == {"account": 5})


async def test_sources_have_one_owner_that_changes_with_its_epoch(run_dir: Path) -> None:
    """Spread over pollers; renewed; moved when the owner is surely gone; revoked when deleted."""
    async with running(run_dir) as control, client(run_dir) as c, nodes() as start:
        a: Node = await start(run_dir, "poller-0", role="POLLER")
        b: Node = await start(run_dir, "poller-1", role="POLLER")
        await c.put("f", await c.upload(package()), [bucket_source("bucket-a"), bucket_source("bucket-b")])
        await eventually(lambda: a.leases and b.leases, what="one source each")
        mine, other = a.leases[0], b.leases[0]
        assert mine.source_id != other.source_id and mine.epoch == other.epoch == 1 and mine.lease_ms == 600
        await eventually(lambda: len(a.leases) >= 3, what="renewals")
        assert {lease.source_id for lease in a.leases} == {mine.source_id} and not a.revoked

        a.membership.leave()
        await eventually(lambda: a.revoked)
        assert (a.revoked[0].source_id, a.revoked[0].epoch) == (mine.source_id, 1)
        await a.membership.stop()
        moved = await eventually(lambda: [s for s in b.leases if s.source_id == mine.source_id])
        assert moved[0].epoch == 2

        await c.call("DeleteFunction", control_pb2.DeleteFunctionRequest(tenant_id="default", function_name="f"))
        await eventually(lambda: {r.source_id for r in b.revoked} == {mine.source_id, other.source_id})
        assert not control.book.entries


async def test_an_owner_keeps_its_source_over_a_restart_of_control(run_dir: Path) -> None:
    """Same owner, same epoch, as far as it said; somebody else has to wait for the old lease to end."""
    async with nodes() as start:
        async with running(run_dir), client(run_dir) as c:
            await c.put("f", await c.upload(package()), [bucket_source("bucket-a")])
            a: Node = await start(run_dir, "poller-0", role="POLLER")
            await eventually(lambda: a.leases)
            assert a.leases[0].done_until_ms == 0
            a.membership.report_progress(a.leases[0].source_id, 1, 77_000)
            await eventually(lambda: a.leases[-1].done_until_ms == 77_000)
        count = len(a.leases)
        async with running(run_dir) as control:
            b: Node = await start(run_dir, "poller-1", role="POLLER")
            await eventually(lambda: len(a.leases) > count, what="a lease from the new start")
            assert {lease.epoch for lease in a.leases} == {1} and not b.leases
            assert {lease.done_until_ms for lease in a.leases[count:]} == {77_000}
            assert not a.revoked
            await b.membership.stop()
            assert len(control.book.entries) == 1
