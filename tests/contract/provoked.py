"""How each reason of the error table comes about: one real call to one real service, its neighbours fakes.

`@provokes` names the reason; the function returns the refusal, of a failed call or of one item of a batch.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import apsw
from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.control.v1 import control_pb2, resources_pb2
from evenflow.frontend.v1 import frontend_pb2
from evenflow.queue.v1 import queue_pb2

from services.queue.database import DiskFull
from services.shared.errors import EvenflowError
from tests.contract import messages
from tests.contract.kit import End, error_of, typed
from tests.contract.queue.nodes import EPOCH, Node, leases
from tests.contract.runtime.test_invoke import hello, invocation, results, send
from tests.integration.control.kit import Client, function_of, package
from tests.integration.frontend.conftest import Rig, make_function, resource
from tests.integration.runtime.kit import HostKit
from tests.kit.queue_node_here import QueueNodeHere
from tests.kit.waiting import eventually

Refusal = EvenflowError | errors_pb2.ErrorDetail
TENANT = "default"


@dataclass
class Ends:
    """Every service that refuses something: an end to call, and what stands behind it."""

    control: End
    queue: End
    node: QueueNodeHere
    door: End
    rig: Rig
    host_end: End
    host: HostKit

    @property
    def client(self) -> Client:
        """Control's, with its words."""
        made = Client.__new__(Client)
        made.peer, made.stub = self.control.peer, self.control.stub
        return made


PROVOKED: dict[str, Callable[[Ends], Awaitable[Refusal]]] = {}


def provokes(reason: str) -> Callable[[Callable[[Ends], Awaitable[Refusal]]], Callable[[Ends], Awaitable[Refusal]]]:
    """Put it into the walk."""

    def note(function: Callable[[Ends], Awaitable[Refusal]]) -> Callable[[Ends], Awaitable[Refusal]]:
        assert reason not in PROVOKED
        PROVOKED[reason] = function
        return function

    return note


async def refused(answer: Awaitable[Any]) -> EvenflowError:
    """The refusal of a unary call."""
    try:
        await answer
    except EvenflowError as e:
        return e
    raise AssertionError("it was answered")


# The queue


@provokes("INVALID_PARAMETER")
async def _(ends: Ends) -> Refusal:
    return await refused(ends.queue.ask("ListEvents", queue_pb2.ListEventsRequest()))


@provokes("EVENT_NOT_FOUND")
async def _(ends: Ends) -> Refusal:
    event = Node(ends.queue).event()
    request = queue_pb2.GetEventRequest(tenant_id="t", request_id=event.request_id)
    return await refused(ends.queue.ask("GetEvent", request))


@provokes("SHARD_UNAVAILABLE")
async def _(ends: Ends) -> Refusal:
    return await refused(ends.queue.ask("ListEvents", queue_pb2.ListEventsRequest(tenant_id="t", shard_id=2)))


@provokes("SHARD_MAP_STALE")
async def _(ends: Ends) -> Refusal:
    node = Node(ends.queue)
    return (await node.enqueue(node.event(), shard_map_epoch=EPOCH - 1)).refusal


@provokes("TOKEN_REUSED")
async def _(ends: Ends) -> Refusal:
    node = Node(ends.queue)
    await node.accept(node.event(token="a"))
    return (await node.enqueue(node.event(token="a", payload=b"1"))).event_refusals[0].error


@provokes("TENANT_QUEUE_FULL")
async def _(ends: Ends) -> Refusal:
    node = Node(ends.queue)
    return (await node.enqueue(*(node.event() for _ in range(3)))).event_refusals[0].error


@provokes("SHARD_FULL")
async def _(ends: Ends) -> Refusal:
    for _ in range(4):
        node = Node(ends.queue)
        answer = await node.enqueue(node.event(1), node.event(1), shard_id=1)
    await Node(ends.queue).empty()
    return answer.refusal


@provokes("RECEIPT_EXPIRED")
async def _(ends: Ends) -> Refusal:
    node = Node(ends.queue)
    await node.accept(node.event())
    (lease,) = await leases(await node.poller(1), 1)
    return (await node.settle(messages.ack(lease), messages.ack(lease))).refusals[0].error


async def _failing(ends: Ends, error: Exception) -> errors_pb2.ErrorDetail:
    """What is said of a batch whose commit fails like this, once."""
    writer = next(iter(ends.node.shards))

    def break_once(shard: Any) -> None:
        def commit() -> None:
            del shard.database.commit
            shard.database.rollback()
            raise error

        shard.database.commit = commit

    await writer.call(break_once)
    node = Node(ends.queue)
    return (await node.enqueue(node.event())).refusal


@provokes("OUTCOME_UNKNOWN")
async def _(ends: Ends) -> Refusal:
    return await _failing(ends, apsw.IOError("disk I/O error"))


@provokes("DISK_FULL")
async def _(ends: Ends) -> Refusal:
    writer = next(iter(ends.node.shards))
    # It may just be opened anew.
    await eventually(lambda: writer.state == queue_pb2.SHARD_STATE_SERVING, 20)
    return await _failing(ends, DiskFull("no room"))


# Runtime hosts


async def _run(ends: Ends, **more: Any) -> errors_pb2.ErrorDetail:
    call, _ = await hello(ends.host_end)
    await send(call, invocation(1, **more))
    found, _ = await results(call, 1)
    call.cancel()
    return found[1].refusal


@provokes("CREDIT_EXCEEDED")
async def _(ends: Ends) -> Refusal:
    call, first = await hello(ends.host_end)
    over = first.credit_invocations + 1
    await send(call, *(invocation(number, name="nobody") for number in range(1, over + 1)))
    found, _ = await results(call, over)
    call.cancel()
    return found[over].refusal


@provokes("FUNCTION_NOT_FOUND")
async def _(ends: Ends) -> Refusal:
    return await _run(ends, name="nobody")


@provokes("CONCURRENCY_EXCEEDED")
async def _(ends: Ends) -> Refusal:
    ends.host.shares.set_target("account", 1)
    call, _ = await hello(ends.host_end)
    await send(call, invocation(1, "waits", b"0.5"))
    await eventually(lambda: ends.host.host.dispatcher.busy, 20)
    found = await _run(ends, max_wait_ms=1)
    await results(call, 1)
    call.cancel()
    ends.host.shares.set_target("account", 100)
    return found


@provokes("RESERVED_CONCURRENCY_EXCEEDED")
async def _(ends: Ends) -> Refusal:
    ends.host.deploy("reserved", "def handler(event, context):\n    pass\n", reserved_concurrency=0)
    return await _run(ends, name="reserved")


@provokes("NO_CAPACITY")
async def _(ends: Ends) -> Refusal:
    ends.host.deploy("large", "def handler(event, context):\n    pass\n", memory_mb=2_048)
    return await _run(ends, name="large")


# Control


@provokes("RUNTIME_UNSUPPORTED")
async def _(ends: Ends) -> Refusal:
    code = await ends.client.upload(package())
    return await refused(ends.client.put("f", code, runtime="ruby"))


@provokes("INVALID_PACKAGE")
async def _(ends: Ends) -> Refusal:
    return await refused(ends.client.upload(b"no zip"))


@provokes("RESOURCE_CONFLICT")
async def _(ends: Ends) -> Refusal:
    code = await ends.client.upload(package())
    await ends.client.put("twice", code)
    request = control_pb2.CreateFunctionRequest(function=function_of("twice", code))
    return await refused(ends.control.ask("CreateFunction", request))


@provokes("RESOURCE_NOT_FOUND")
async def _(ends: Ends) -> Refusal:
    request = control_pb2.GetSourceRequest(tenant_id=TENANT, source_id="none")
    return await refused(ends.control.ask("GetSource", request))


@provokes("REVISION_MISMATCH")
async def _(ends: Ends) -> Refusal:
    await ends.client.put("revised", await ends.client.upload(package()))
    request = control_pb2.PublishVersionRequest(
        tenant_id=TENANT, function_name="revised", expected_revision_id="another"
    )
    return await refused(ends.control.ask("PublishVersion", request))


@provokes("PROVISIONED_NOT_FOUND")
async def _(ends: Ends) -> Refusal:
    await ends.client.put("plain", await ends.client.upload(package()))
    name: dict[str, Any] = {"tenant_id": TENANT, "function_name": "plain"}
    published = await ends.control.ask("PublishVersion", control_pb2.PublishVersionRequest(**name))
    request = control_pb2.ReadProvisionedRequest(**name, qualifier=published.published.version)
    return await refused(ends.control.ask("ReadProvisioned", request))


@provokes("RESOURCE_IN_USE")
async def _(ends: Ends) -> Refusal:
    tenant = resources_pb2.Tenant(tenant_id="busy")
    await ends.control.ask("PutTenant", control_pb2.PutTenantRequest(tenant=tenant))
    await ends.client.put("f", await ends.client.upload(package()), tenant_id="busy")
    return await refused(ends.control.ask("DeleteTenant", control_pb2.DeleteTenantRequest(tenant_id="busy")))


@provokes("POLICY_TOO_LONG")
async def _(ends: Ends) -> Refusal:
    await ends.client.put("guarded", await ends.client.upload(package()))
    for number in range(30):
        statement = resources_pb2.PermissionStatement(
            statement_id=f"s{number}",
            action="lambda:InvokeFunction",
            principal="s3.amazonaws.com",
            source_arn="arn:aws:s3:::" + "x" * 1_000,
        )
        request = control_pb2.AddPermissionRequest(tenant_id=TENANT, function_name="guarded", statement=statement)
        try:
            await ends.control.ask("AddPermission", request)
        except EvenflowError as e:
            return e
    raise AssertionError("it was never too long")


# The doors


@provokes("UNAUTHENTICATED")
async def _(ends: Ends) -> Refusal:
    request = frontend_pb2.GetEventRequest(request_id=b"x" * 16)
    return await refused(ends.door.ask("GetEvent", request, metadata=()))


@provokes("ACCESS_DENIED")
async def _(ends: Ends) -> Refusal:
    request = frontend_pb2.InvokeRequest(function_name="echo", tenant_id="other")
    return typed(await error_of(ends.rig.public.Invoke(request)))


async def _invoke(ends: Ends, **more: Any) -> EvenflowError:
    return await refused(ends.door.ask("Invoke", frontend_pb2.InvokeRequest(**{"function_name": "echo", **more})))


@provokes("INVALID_REQUEST_CONTENT")
async def _(ends: Ends) -> Refusal:
    return await _invoke(ends, payload=b"{")


@provokes("REQUEST_TOO_LARGE")
async def _(ends: Ends) -> Refusal:
    return await _invoke(ends, payload=b'"' + b"x" * (6 << 20) + b'"')


@provokes("RECURSION_STOPPED")
async def _(ends: Ends) -> Refusal:
    return await _invoke(ends, lineage=event_pb2.Lineage(parent_request_id=b"p" * 16, chain_depth=16))


async def _played(ends: Ends, behave: Any, **more: Any) -> EvenflowError:
    """What the door says when the host behaves so."""
    fake, usual = ends.rig.runtime, ends.rig.runtime.behave
    fake.behave = behave
    found = await _invoke(ends, **more)
    fake.behave = usual
    return found


@provokes("INTERNAL")
async def _(ends: Ends) -> Refusal:
    outcome = event_pb2.Outcome(status=event_pb2.OUTCOME_STATUS_SYSTEM_ERROR)
    return await _played(ends, lambda _invocation: outcome)


@provokes("DRAINING")
async def _(ends: Ends) -> Refusal:
    node = Node(ends.queue)
    await ends.node.shards.drain()
    return (await node.enqueue(node.event())).refusal


@provokes("UNAVAILABLE")
async def _(ends: Ends) -> Refusal:
    node_id = "queue-9"
    hello_ = control_pb2.JoinHello(
        node_id=node_id, role=resources_pb2.NODE_ROLE_QUEUE, incarnation="a", address="unix:/nowhere"
    )
    call = ends.control.open("Join")
    await call.write(control_pb2.JoinRequest(hello=hello_))
    await call.read()
    await call.write(control_pb2.JoinRequest(leaving=control_pb2.Leaving()))
    await call.done_writing()
    await call.code()
    return await refused(ends.control.ask("MoveShard", control_pb2.MoveShardRequest(shard_id=0, to_node_id=node_id)))


@provokes("DEADLINE_EXCEEDED")
async def _(ends: Ends) -> Refusal:
    function = make_function("slow")
    function.latest.timeout_ms = 1
    ends.rig.configuration.put(resource(function=function))
    return await _played(ends, lambda _invocation: None, function_name="slow")
