"""Evenflow's side of the rounds: the ways to submit, and the stretches that are measured."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from loadtest.bench.evenflow_fleet import HOST, EvenflowFleet
from loadtest.bench.fleet_functions import NOOP
from loadtest.bench.grpc_client import BATCH_EVENTS, GrpcLoad
from loadtest.bench.http_client import HttpLoad, invoke_request
from loadtest.bench.meter import Meter, Rate
from loadtest.bench.peers.peer import IN_FLIGHT, PAYLOAD_TEXT, WARM_UP_EVENTS

PAYLOAD = f'"{PAYLOAD_TEXT}"'.encode()

# Submits so many events; returns when each is durable.
Submit = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Ways:
    """The ways to submit that are measured."""

    http: Submit
    http_one_caller: Submit
    grpc_batches: Submit
    grpc_one_caller: Submit


@asynccontextmanager
async def connected(fleet: EvenflowFleet) -> AsyncIterator[Ways]:
    """Connections to both doors, made before anything is timed; for one visit, since a door closes idle ones."""
    request = invoke_request(HOST, NOOP, PAYLOAD)
    async with AsyncExitStack() as stack:
        grpc = await stack.enter_async_context(GrpcLoad(fleet.grpc_address))
        many = await stack.enter_async_context(HttpLoad(HOST, fleet.http_port, request, IN_FLIGHT))
        one = await stack.enter_async_context(HttpLoad(HOST, fleet.http_port, request, 1))

        async def batches(events: int) -> None:
            await grpc.publish(NOOP, PAYLOAD, -(-events // BATCH_EVENTS))

        async def unary(events: int) -> None:
            for _ in range(events):
                await grpc.submit(NOOP, PAYLOAD)

        yield Ways(many.send, one.send, batches, unary)


async def accept(fleet: EvenflowFleet, submit: Submit, events: int) -> Rate:
    """Submit so many while no poller takes them; then let all of them run, which proves that each was kept."""
    runs, finished = fleet.ticks.runs() + events, await fleet.finished() + events
    async with fleet.paused():
        meter = Meter(fleet.cpu_seconds)
        await submit(events)
        rate = meter.stop(events)
    await fleet.wait_settled(runs, finished)
    return rate


async def end_to_end(fleet: EvenflowFleet, submit: Submit, events: int) -> Rate:
    """From the first submit until every handler ran and every event is settled."""
    runs, finished = fleet.ticks.runs() + events, await fleet.finished() + events
    meter = Meter(fleet.cpu_seconds)
    await submit(events)
    await fleet.wait_settled(runs, finished)
    return meter.stop(events)


async def warm_up(fleet: EvenflowFleet) -> None:
    """Sandboxes started, code paths and caches in use."""
    async with connected(fleet) as ways:
        for submit in (ways.grpc_batches, ways.http):
            await end_to_end(fleet, submit, WARM_UP_EVENTS)
        for submit in (ways.http_one_caller, ways.grpc_one_caller):
            await end_to_end(fleet, submit, 1)
