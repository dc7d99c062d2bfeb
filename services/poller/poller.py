"""One poller process: the streams to queue nodes, runtime hosts and doors, and what happens between them."""

import asyncio

from evenflow.control.v1 import resources_pb2
from evenflow.poller.v1 import poller_pb2_grpc

from services.poller.deliveries import Deliveries
from services.poller.door import Door
from services.poller.endings import Endings
from services.poller.functions import FunctionBook, arn_of
from services.poller.held import Stage
from services.poller.limits import Limits
from services.poller.lookups import Lookups
from services.poller.neighbours import Neighbours
from services.poller.pace import Pace
from services.poller.processing import Processing
from services.poller.queue_fleet import QueueFleet
from services.poller.runtime_fleet import RuntimeFleet
from services.poller.service import PollerService
from services.poller.settings import PollerSettings
from services.poller.sources.bucket_sources import BucketSources
from services.poller.sources.event_sources import EventSources
from services.poller.sources.invoker import Invoker
from services.poller.sources.schedule_source import ScheduleSources
from services.poller.sources.sqs_sources import SqsSources
from services.poller.telemetry import Telemetry
from services.poller.window import Window
from services.shared.aws import AwsCalls
from services.shared.config_view import ConfigView
from services.shared.node import Node

SERVICE_NAME = "evenflow.poller.v1.PollerService"
TICK_SECONDS = 0.1
# Looks that go over every lease are taken on one tick of so many.
SCAN_TICKS = 5
# A lease is extended when this part of its visibility timeout is over: two extensions may get lost.
EXTEND_PART = 3
# A burst of configuration changes is followed once.
FOLLOW_DELAY_SECONDS = 0.02
DRAIN_POLL_SECONDS = 0.02


class Poller:
    """See services.shared.lifecycle.Service."""

    def __init__(self, settings: PollerSettings) -> None:
        self._settings = settings
        node = self._node = Node(settings, resources_pb2.NODE_ROLE_POLLER, [SERVICE_NAME])
        clock = self._clock = node.clock
        self._telemetry = Telemetry(
            node.metrics,
            node.tracer,
            clock,
            leases_held=lambda: self.queues.leases_held,
            in_flight=lambda: self.hosts.in_flight,
        )
        functions = FunctionBook(settings, self._view)
        self._functions = functions
        self._lookups = Lookups(node.follower)
        window = Window(settings.max_leases, settings.max_lease_bytes, settings.lease_batch)
        self.processing = Processing(
            clock=clock,
            functions=functions,
            lookups=self._lookups,
            window=window,
            endings=Endings(clock, functions, self._telemetry),
            telemetry=self._telemetry,
            wake_queues=self._wake_queues,
        )
        self.queues = QueueFleet(
            settings,
            incarnation=node.incarnation,
            view=self._view,
            dial=node.dial,
            window=window,
            clock=clock,
            owner=self.processing,
            on_gone=self.processing.node_gone,
        )
        self.hosts = RuntimeFleet(
            settings,
            incarnation=node.incarnation,
            view=self._view,
            dial=node.dial,
            functions=functions,
            owner=self.processing,
        )
        self.door = Door(self._view, node.dial, clock)
        self.limits = Limits(self.queues.set_limit, settings.max_leases)
        self.pace = Pace(self.limits.set_pace, settings.max_leases)
        self._aws = AwsCalls(settings, "aws-deliveries")
        self.deliveries = Deliveries(
            door=self.door,
            neighbours=Neighbours(self._aws, settings.aws_endpoint_url),
            functions=functions,
            arn_of=lambda tenant, name, qualifier: arn_of(self._view(), tenant, name, qualifier),
            clock=clock,
            telemetry=self._telemetry,
            within_ms=settings.delivery_seconds * 1_000,
            max_tries=settings.delivery_tries,
            keep_ms=settings.delivery_keep_seconds * 1_000,
        )
        self.processing.hosts = self.hosts
        self.processing.deliveries = self.deliveries
        self.processing.limits = self.limits
        self.processing.pace = self.pace
        self.queue_sources = SqsSources(
            settings, view=self._view, invoker=Invoker(self._view, node.dial), clock=clock, metrics=node.metrics
        )
        self.sources = EventSources(
            [
                BucketSources(settings, submit=self.door.submit, clock=clock, metrics=node.metrics),
                ScheduleSources(
                    submit=self.door.submit,
                    clock=clock,
                    metrics=node.metrics,
                    speed=settings.source_schedule_speed,
                ),
                self.queue_sources,
            ],
            view=self._view,
            clock=clock,
            report_progress=node.membership.report_progress,
        )
        node.membership.on_source_lease = self.sources.on_lease
        node.membership.on_source_revoked = self.sources.on_revoked
        service = PollerService(
            poller_id=settings.node_id,
            limits=self.limits,
            leases_held=lambda: self.queues.leases_held,
            invocations_in_flight=lambda: self.hosts.in_flight,
            deliveries_in_flight=lambda: self.deliveries.in_flight,
            sources=self.sources.describe,
        )
        poller_pb2_grpc.add_PollerServiceServicer_to_server(service, node.server.server)
        self._following: asyncio.TimerHandle | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Lease. OSError: an address is in use."""
        await self._node.start_following()
        self._node.follower.subscribe(self._follow_soon)
        self._follow()
        await self._node.start()
        self._ticking = asyncio.create_task(self._tick_forever(), name="poller ticks")

    async def drain(self) -> None:
        """Lease nothing more, give back what waits, settle what runs."""
        await self._node.drain()
        await self.sources.drain()
        self.processing.drain()
        # What was granted would be delivered again as often as it is given back.
        await self.queues.stop_leasing()
        # Four counts of four owners, once in a process's life: looking is simpler than signals.
        while (  # noqa: ASYNC110
            self.queues.leases_held or self.hosts.in_flight or self.deliveries.in_flight or self.queue_sources.unsettled
        ):
            await asyncio.sleep(DRAIN_POLL_SECONDS)

    async def stop(self) -> None:
        """Close everything; leases that are still held are freed by the queue when the next poller comes."""
        if self._following is not None:
            self._following.cancel()
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        await self.sources.stop()
        await self.hosts.close()
        await self.queues.close()
        await self.door.close()
        await self._aws.close()
        await self._lookups.close()
        await self._node.stop()

    def _view(self) -> ConfigView:
        return self._node.follower.view

    def _wake_queues(self) -> None:
        self.queues.wake()

    def _follow_soon(self) -> None:
        if self._following is None:
            self._following = asyncio.get_running_loop().call_later(FOLLOW_DELAY_SECONDS, self._follow)

    def _follow(self) -> None:
        self._following = None
        view = self._view()
        self.queues.follow()
        self.hosts.follow()
        self.door.follow()
        pollers = sum(1 for _ in view.members_of(resources_pb2.NODE_ROLE_POLLER))
        self._functions.pollers = max(1, pollers)
        self.limits.follow(view.functions.values(), max(1, pollers) * self.queues.owner_count)
        self.sources.follow()

    async def _tick_forever(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            ticks += 1
            now_ms = self._clock.monotonic_ms()
            for node in self.queues:
                node.tick(now_ms)
            self.door.tick(now_ms)
            self.pace.tick(now_ms, *self.hosts.load)
            self.limits.set_stuck(self.hosts.stuck())
            if ticks % SCAN_TICKS == 0:
                self._scan(now_ms)

    def _scan(self, now_ms: float) -> None:
        settings = self._settings
        lost_after_ms = settings.max_wait_ms + settings.run_margin_seconds * 1_000
        self.processing.tick(now_ms, settings.pending_seconds * 1_000, lost_after_ms)
        self.limits.tick(now_ms)
        for node in self.queues:
            oldest_ms = now_ms - node.visibility_ms / EXTEND_PART
            for held in node.leases:
                if held.renewed_ms < oldest_ms and held.stage < Stage.SETTLING:
                    node.extend(held)
