"""The queue nodes as a frontend sees them: one Enqueue stream and one WatchDepths stream each."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable

import grpc
from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc

from services.frontend.accept import Accepter
from services.frontend.lanes import Lane
from services.frontend.settings import FrontendSettings
from services.frontend.targets import Configuration
from services.policy.backoff import equal_jitter_ms
from services.shared.channels import Peer
from services.shared.clock import Clock
from services.shared.streams import BACKOFF_BASE_MS, BACKOFF_CAP_MS, StreamLink

TICK_SECONDS = 0.05
# Batches on their way to one node: what arrives meanwhile makes the next ones larger, whichever shards they are for.
# One that is not answered soon does not count: a shard on a slow disk must not hold up its neighbours.
MAX_UNANSWERED_OF_A_NODE = 2
SOON_MS = 10.0
# A batch of so many is worth a message and a commit of its own.
LARGE_BATCH_EVENTS = 64
log = logging.getLogger(__name__)


class QueueNode:
    """The streams to one queue node and the lanes of the shards it owns."""

    def __init__(
        self, node_id: str, peer: Peer, accepter: Accepter, clock: Clock, epoch: Callable[[], int], interval_ms: int
    ) -> None:
        self.node_id = node_id
        self.target = peer.target
        self.stub = queue_pb2_grpc.QueueServiceStub(peer.channel)
        self.metadata = peer.metadata
        self._accepter = accepter
        self._clock = clock
        self._epoch = epoch
        self._interval_ms = interval_ms
        self._line: deque[Lane] = deque()
        self._lane_of_batch: dict[int, Lane] = {}
        self._timer: asyncio.TimerHandle | None = None
        # When each unanswered batch of this stream was sent.
        self._sent_ms: dict[int, float] = {}
        # What the node told last of each shard, also of those that are about to become its own.
        self._told: dict[int, queue_pb2.ShardDepth] = {}
        self._watch: asyncio.Task[None] | None = None
        self._is_detached = False
        self._link: StreamLink[queue_pb2.EnqueueRequest, queue_pb2.EnqueueResponse] = StreamLink(
            f"{node_id} enqueue",
            dial=lambda: self.stub.Enqueue(metadata=self.metadata),
            produce=self._produce,
            on_message=self._on_answer,
            on_up=self._on_up,
            on_down=lambda _error: self._on_down(),
        )

    def start(self) -> None:
        """Keep both streams up."""
        self._link.start()
        self._watch = asyncio.create_task(self._watch_depths(), name=f"depths of {self.node_id}")

    def detach(self) -> None:
        """Hold no lane any more: another stream takes over, late answers of this one count for nothing."""
        self._on_down()
        self._is_detached = True

    async def close(self) -> None:
        """End both streams."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._link.close()

    @property
    def is_up(self) -> bool:
        """Whether batches can be sent."""
        return self._link.is_up

    def ready(self, lane: Lane) -> None:
        """A lane of this node has something to send."""
        lane.is_in_line = True
        self._line.append(lane)
        self._link.wake()

    def _lanes(self) -> list[Lane]:
        return [lane for lane in self._accepter.lanes if lane.owner == self.node_id]

    def _produce(self) -> queue_pb2.EnqueueRequest | None:
        now_ms, epoch = self._clock.monotonic_ms(), self._epoch()
        while self._line:
            if not self._sends_now(self._line[0], now_ms):
                self._look_again_soon()
                break
            lane = self._line.popleft()
            lane.is_in_line = False
            if lane.owner != self.node_id or not lane.may_send(epoch, now_ms):
                # Its answer, the tick or its new owner puts it in line again.
                continue
            batch = lane.take()
            lane.stale_epoch, lane.retry_at_ms = 0, 0.0
            lane.sent[batch.request.batch_id] = batch
            self._lane_of_batch[batch.request.batch_id] = lane
            self._sent_ms[batch.request.batch_id] = now_ms
            batch.sent_ms = batch.sent_ms or now_ms
            batch.request.shard_map_epoch = epoch
            if lane.may_send(epoch, now_ms):
                lane.is_in_line = True
                self._line.append(lane)
            return batch.request
        return None

    def _sends_now(self, lane: Lane, now_ms: float) -> bool:
        sent = self._sent_ms
        if len(sent) < MAX_UNANSWERED_OF_A_NODE or lane.next_events >= LARGE_BATCH_EVENTS:
            return True
        return sum(now_ms - sent_ms < SOON_MS for sent_ms in sent.values()) < MAX_UNANSWERED_OF_A_NODE

    def _on_answer(self, answer: queue_pb2.EnqueueResponse) -> None:
        lane = self._lane_of_batch.pop(answer.batch_id, None)
        self._sent_ms.pop(answer.batch_id, None)
        if lane is not None and lane.owner == self.node_id:
            self._accepter.answered(lane, answer)
        if self._line:
            self._link.wake()

    def _look_again_soon(self) -> None:
        # Answers wake the stream, too; this is for those that do not come soon.
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SOON_MS / 1_000, self._soon_is_over)

    def _soon_is_over(self) -> None:
        self._timer = None
        if self._line:
            self._link.wake()

    def _on_up(self) -> None:
        if self._is_detached:
            return
        for lane in self._lanes():
            # A state told before the break may be over; the watch tells the new one.
            lane.state = queue_pb2.SHARD_STATE_SERVING
            self._accepter.refresh_health(lane, link_is_up=True)
            if lane.has_more() and not lane.is_in_line:
                self.ready(lane)

    def _on_down(self) -> None:
        if self._is_detached:
            return
        self._line.clear()
        self._lane_of_batch.clear()
        self._sent_ms.clear()
        lanes = self._lanes()
        # First all are unhealthy, then events move: none may move to a neighbour that is down as well.
        for lane in lanes:
            lane.is_in_line = False
            self._accepter.refresh_health(lane, link_is_up=False)
        for lane in lanes:
            self._accepter.lane_down(lane)

    async def _watch_depths(self) -> None:
        failures = 0
        while True:
            call = self.stub.WatchDepths(
                queue_pb2.WatchDepthsRequest(interval_ms=self._interval_ms), metadata=self.metadata
            )
            try:
                self._told.clear()
                async for message in call:
                    failures = 0
                    self._take_depths(message)
            except grpc.aio.AioRpcError as e:
                if failures == 0:
                    log.info("depths: %s %s", e.code().name, e.details(), extra={"peer": self.node_id})
            finally:
                call.cancel()
            failures += 1
            await asyncio.sleep(equal_jitter_ms(failures, BACKOFF_BASE_MS, BACKOFF_CAP_MS, random.random()) / 1_000)

    def _take_depths(self, message: queue_pb2.WatchDepthsResponse) -> None:
        lanes = self._accepter.lanes
        for entry in message.depths:
            self._told[entry.shard_id] = entry
            if entry.shard_id < len(lanes) and lanes[entry.shard_id].owner == self.node_id:
                self.report(lanes[entry.shard_id])

    def report(self, lane: Lane) -> None:
        """Take over what the node told of a shard, if it did."""
        entry = self._told.get(lane.shard_id)
        if entry is not None:
            self._accepter.depths.report(entry.shard_id, entry.depth)
            if lane.state != entry.state:
                lane.state = entry.state
                self._accepter.refresh_health(lane)


class QueueFleet:
    """Follows the shard map: which node each lane goes to."""

    def __init__(
        self,
        settings: FrontendSettings,
        clock: Clock,
        configuration: Configuration,
        dial: Callable[[str], Peer],
        accepter: Accepter,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._configuration = configuration
        self._dial = dial
        self._accepter = accepter
        self._nodes: dict[str, QueueNode] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.Task[None] | None = None
        accepter.on_ready = self._ready

    def start(self) -> None:
        """Follow from now on."""
        self._configuration.subscribe(self._follow)
        self._follow()
        self._ticker = asyncio.create_task(self._tick(), name="accept ticks")

    async def close(self) -> None:
        """Stop; every stream ends."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        await asyncio.gather(*(n.close() for n in self._nodes.values()), *self._closing, return_exceptions=True)
        self._nodes.clear()

    @property
    def shard_count(self) -> int:
        """Shards of the fleet; 0 before the map is known."""
        return len(self._accepter.lanes)

    def node_of(self, shard_id: int) -> QueueNode | None:
        """The node that owns the shard, when it is known and has an address."""
        if shard_id >= len(self._accepter.lanes):
            return None
        return self._nodes.get(self._accepter.lanes[shard_id].owner)

    def _epoch(self) -> int:
        shard_map = self._configuration.view.shard_map
        return shard_map.epoch if shard_map is not None else 0

    def _ready(self, lane: Lane) -> None:
        node = self._nodes.get(lane.owner)
        if node is not None and node.is_up:
            node.ready(lane)

    def _follow(self) -> None:
        view = self._configuration.view
        if view.shard_map is None:
            return
        owners = list(view.shard_map.owner_node_ids)
        self._accepter.resize(len(owners))
        for node_id in {*owners, *self._nodes}:
            member = view.members.get(node_id)
            address = member.address if member is not None and node_id in owners else ""
            self._keep(node_id, address)
        for lane, owner in zip(self._accepter.lanes, owners, strict=True):
            if lane.owner != owner:
                self._move(lane, owner)
            elif lane.has_more() and not lane.is_in_line:
                # A newer epoch may be what it waits for.
                self._ready(lane)

    def _keep(self, node_id: str, address: str) -> None:
        node = self._nodes.get(node_id)
        if node is not None and node.target == address:
            return
        if node is not None and (address or node_id not in self._owners()):
            del self._nodes[node_id]
            node.detach()
            task = asyncio.create_task(node.close(), name=f"close {node_id}")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if address:
            node = QueueNode(
                node_id,
                self._dial(address),
                self._accepter,
                self._clock,
                self._epoch,
                self._settings.depth_interval_ms,
            )
            self._nodes[node_id] = node
            node.start()

    def _owners(self) -> set[str]:
        shard_map = self._configuration.view.shard_map
        return set(shard_map.owner_node_ids) if shard_map is not None else set()

    def _move(self, lane: Lane, owner: str) -> None:
        """The shard has another owner now: what waits for it, or is of unknown outcome, goes there."""
        lane.cut()
        lane.is_in_line = False
        lane.owner = owner
        lane.state = queue_pb2.SHARD_STATE_SERVING
        lane.refusal = None
        lane.stale_epoch, lane.retry_at_ms = 0, 0.0
        node = self._nodes.get(owner)
        self._accepter.refresh_health(lane, link_is_up=node is not None and node.is_up)
        if node is not None:
            node.report(lane)
        if lane.has_more():
            self._ready(lane)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                self._accepter.tick()
            except Exception:
                log.exception("accept tick failed")
