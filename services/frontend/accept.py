"""Accepts events: shard choice, batches by shard, and what becomes of every answer of a queue node."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2
from opentelemetry.trace import SpanKind

from services.frontend.lanes import EVENT_OVERHEAD_BYTES, Batch, Lane, copy_with_id
from services.frontend.settings import FrontendSettings
from services.frontend.targets import Target
from services.frontend.telemetry import Telemetry
from services.frontend.tickets import Ticket
from services.policy.shard_choice import Depths, Draw, make_choice
from services.shared import ids
from services.shared.clock import Clock
from services.shared.config_view import ConfigView
from services.shared.errors import EvenflowError, Reason
from services.shared.tracing import Tracer

# A shard that refused a batch is not chosen for this time, unless its node says sooner that it serves.
REFUSAL_COOL_DOWN_MS = 200.0
STALE_RETRY_MS = 100.0
# Events count as arriving together for so long, and for as long as the first of them has not left; when that does not
# leave its shard is slow, and the next ones are better off elsewhere.
RUN_MS, MAX_RUN_MS = 2.0, 20.0
RETRY_AFTER_MS = 1_000
_FULL = (Reason.ERROR_REASON_SHARD_FULL, Reason.ERROR_REASON_DISK_FULL)
_SHARD_REFUSED = (*_FULL, Reason.ERROR_REASON_SHARD_UNAVAILABLE, Reason.ERROR_REASON_DRAINING)


@dataclass(slots=True)
class _Run:
    """Events that share one shard choice."""

    tenant_id: str
    lane: Lane
    began_ms: float
    left: int

    def goes_on(self, tenant_id: str, now_ms: float) -> bool:
        """Whether one more event of this tenant belongs to it."""
        age_ms = now_ms - self.began_ms
        is_together = age_ms < RUN_MS or (self.lane.open is not None and age_ms < MAX_RUN_MS)
        return self.left > 0 and is_together and tenant_id == self.tenant_id


class Accepter:
    """Takes admitted events and answers their tickets once they are durable, or surely or possibly not."""

    def __init__(
        self,
        settings: FrontendSettings,
        clock: Clock,
        tracer: Tracer,
        view: Callable[[], ConfigView],
        draw: Draw = random.random,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._tracer = tracer
        self._view = view
        self._draw = draw
        self._choice = make_choice(settings.shard_choice, settings.shard_choice_d)
        self._run: _Run | None = None
        self._batch_id = 0
        self._held: deque[tuple[event_pb2.Event, Ticket, int]] = deque()
        self._link_up: dict[int, bool] = {}
        self.lanes: list[Lane] = []
        self.depths = Depths(0)
        self.pending_events = 0
        self.pending_bytes = 0
        self.telemetry: Telemetry | None = None
        # Set by the fleet of queue nodes: a lane has something to send.
        self.on_ready: Callable[[Lane], None] = lambda _lane: None

    def resize(self, shard_count: int) -> None:
        """The shard count is known; it stays for the life of the fleet (ids encode it)."""
        if shard_count != len(self.lanes):
            self._run = None
            self.lanes = [*self.lanes[:shard_count], *map(Lane, range(len(self.lanes), shard_count))]
            self.depths = Depths(shard_count, healthy=False)

    def submit(
        self,
        ticket: Ticket,
        index: int,
        target: Target,
        payload: bytes,
        trace: event_pb2.TraceContext,
        *,
        source: str,
        token: tuple[str, str] | None = None,
        lineage: event_pb2.Lineage | None = None,
    ) -> None:
        """Send one event on its way; its ticket is told what became of it, perhaps before this returns.

        `trace`: from Tracer.new_root. `token`: purpose and client token, for an id that is derived, not minted.
        """
        settings = self._settings
        size = len(payload) + EVENT_OVERHEAD_BYTES
        if self.pending_events >= settings.max_pending_events or self.pending_bytes + size > settings.max_pending_bytes:
            error = f"this door has {self.pending_events} events that are not durable yet, its bound: try again"
            ticket.refuse(index, EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, error, RETRY_AFTER_MS))
            return
        clock = self._clock
        wall_ms = clock.wall_ms()
        now_ms = clock.monotonic_ms()
        self.pending_events += 1
        self.pending_bytes += size
        lane: Lane | None = None
        request_id = b""
        if token is not None and self.lanes:
            request_id = ids.derive(target.tenant_id, token[0], token[1].encode(), len(self.lanes))
            lane = self.lanes[ids.shard_of(request_id)]
        elif token is None:
            lane = self._choose_for_run(target.tenant_id, now_ms)
            if lane is not None:
                request_id = ids.mint(wall_ms, lane.shard_id)
        if trace.traceparent.endswith("01"):
            trace = self._start_span(ticket, index, target, trace)
        if lane is None:
            if token is not None:
                self._settle(size)
                ticket.refuse(index, self._no_shard(ticket))
                return
            event = event_pb2.Event(
                tenant_id=target.tenant_id,
                function_name=target.function_name,
                qualifier=target.qualifier,
                payload=payload,
                trace=trace,
                accepted_at_ms=wall_ms,
                expires_at_ms=wall_ms + target.max_age_ms,
                lineage=lineage,
                source=source,
            )
            self._hold(event, ticket, index)
            return
        self._batch_id += 1
        batch = lane.room(len(payload), self._batch_id, now_ms)
        batch.request.events.add(
            tenant_id=target.tenant_id,
            function_name=target.function_name,
            qualifier=target.qualifier,
            request_id=request_id,
            payload=payload,
            trace=trace,
            accepted_at_ms=wall_ms,
            expires_at_ms=wall_ms + target.max_age_ms,
            lineage=lineage,
            source=source,
        )
        ticket.request_ids[index] = request_id
        batch.tickets.append(ticket)
        batch.indexes.append(index)
        self.depths.sent(lane.shard_id)
        if not lane.is_in_line:
            self.on_ready(lane)

    def answered(self, lane: Lane, answer: queue_pb2.EnqueueResponse) -> None:
        """A queue node answered a batch; an answer to one that was given up is passed over."""
        batch = lane.sent.pop(answer.batch_id, None)
        if batch is None:
            return
        if answer.HasField("refusal"):
            self._refused(lane, batch, EvenflowError.from_detail(answer.refusal), answer)
        else:
            self.depths.answered(lane.shard_id, len(batch), answer.depth)
            if self.telemetry is not None:
                self.telemetry.accept_latency.record(self._clock.monotonic_ms() - batch.opened_ms)
            if answer.event_refusals or answer.duplicate_indexes:
                self._answer_one_by_one(batch, answer)
            else:
                self._settle(batch.size_bytes, len(batch))
                for ticket, index in zip(batch.tickets, batch.indexes, strict=True):
                    ticket.accept(index)
        if lane.has_more() and not lane.is_in_line:
            self.on_ready(lane)

    def lane_down(self, lane: Lane) -> None:
        """The stream to the lane's owner broke: unsent minted events find another shard, the rest waits for its own."""
        lane.cut()
        for batch in lane.take_unsent():
            self._choose_again(lane, batch)

    def tick(self) -> None:
        """Look after time: held events, batches without an answer, refusals that are over; every 50 ms or so."""
        now_ms = self._clock.monotonic_ms()
        for lane in self.lanes:
            if lane.refusal is not None and now_ms >= lane.refused_until_ms:
                lane.refusal = None
                self.refresh_health(lane)
            if not (lane.sent or lane.has_more()):
                continue
            for batch, is_unknown in lane.take_overdue(now_ms, self._settings.hold_ms, self._settings.resend_ms):
                self._fail(lane, batch, _overdue(lane, is_unknown))
            if lane.has_more() and not lane.is_in_line:
                self.on_ready(lane)
        if self._held:
            self.place_held()

    def place_held(self) -> None:
        """Try the held events again; those that waited too long are refused."""
        now_ms = self._clock.monotonic_ms()
        for _ in range(len(self._held)):
            event, ticket, index = self._held.popleft()
            if ticket.is_given_up:
                self._settle(len(event.payload) + EVENT_OVERHEAD_BYTES)
                ticket.refuse(index, _given_up())
                continue
            lane = self._choose(event.tenant_id, now_ms)
            if lane is not None:
                self._put(lane, event, ticket, index)
            elif now_ms - ticket.arrived_ms > self._settings.hold_ms:
                self._settle(len(event.payload) + EVENT_OVERHEAD_BYTES)
                ticket.refuse(index, self._no_shard(ticket))
            else:
                self._held.append((event, ticket, index))

    def refresh_health(self, lane: Lane, link_is_up: bool | None = None) -> None:
        """Work out whether a lane may be chosen; `link_is_up` None: as before."""
        if link_is_up is not None:
            self._link_up[lane.shard_id] = link_is_up
        healthy = (
            self._link_up.get(lane.shard_id, False)
            and lane.state == queue_pb2.SHARD_STATE_SERVING
            and lane.refusal is None
        )
        if self.depths.set_healthy(lane.shard_id, healthy, self._clock.monotonic_ms()) and healthy and self._held:
            self.place_held()

    def _choose_for_run(self, tenant_id: str, now_ms: float) -> Lane | None:
        """One choice for events of a tenant that arrive together: a few larger commits instead of many small ones."""
        run = self._run
        if run is not None and run.goes_on(tenant_id, now_ms) and self.depths.is_healthy(run.lane.shard_id):
            run.left -= 1
            return run.lane
        lane = self._choose(tenant_id, now_ms)
        left = self._settings.choice_run - 1
        self._run = _Run(tenant_id, lane, now_ms, left) if lane is not None and left else None
        return lane

    def _choose(self, tenant_id: str, now_ms: float) -> Lane | None:
        quota = 0.0
        if self._settings.shard_choice == "shuffle_shard":
            tenant = self._view().tenants.get(tenant_id)
            quota = tenant.quota_millionths / 1_000_000 if tenant is not None else 0.0
        shard_id = self._choice.choose(tenant_id, quota, self.depths, self._draw, now_ms)
        return None if shard_id is None else self.lanes[shard_id]

    def _put(self, lane: Lane, event: event_pb2.Event, ticket: Ticket, index: int) -> None:
        event = copy_with_id(event, ids.mint(event.accepted_at_ms, lane.shard_id))
        self._batch_id += 1
        batch = lane.room(len(event.payload), self._batch_id, ticket.arrived_ms)
        batch.request.events.append(event)
        batch.tickets.append(ticket)
        batch.indexes.append(index)
        ticket.request_ids[index] = event.request_id
        self.depths.sent(lane.shard_id)
        if not lane.is_in_line:
            self.on_ready(lane)

    def _hold(self, event: event_pb2.Event, ticket: Ticket, index: int) -> None:
        refusal = self._full_everywhere()
        if refusal is not None:
            self._settle(len(event.payload) + EVENT_OVERHEAD_BYTES)
            ticket.refuse(index, refusal)
        else:
            self._held.append((event, ticket, index))

    def _full_everywhere(self) -> EvenflowError | None:
        """The refusal of the shards when every one of them is full: waiting would only fill this door, too."""
        found = None
        for lane in self.lanes:
            if lane.refusal is None or lane.refusal.reason not in _FULL:
                return None
            found = lane.refusal
        return None if found is None else EvenflowError.from_detail(found)

    def _refused(self, lane: Lane, batch: Batch, error: EvenflowError, answer: queue_pb2.EnqueueResponse) -> None:
        now_ms = self._clock.monotonic_ms()
        if error.reason == Reason.ERROR_REASON_SHARD_MAP_STALE:
            # The follower brings the newer map; the timer is for a node that was ahead of control's word.
            lane.stale_epoch = batch.request.shard_map_epoch
            lane.retry_at_ms = now_ms + STALE_RETRY_MS
            lane.again.appendleft(batch)
        elif error.reason in _SHARD_REFUSED:
            lane.refusal = answer.refusal
            lane.refused_until_ms = now_ms + REFUSAL_COOL_DOWN_MS
            lane.stale_epoch, lane.retry_at_ms = 0, now_ms + REFUSAL_COOL_DOWN_MS
            self.refresh_health(lane)
            if batch.was_cut:
                lane.again.appendleft(batch)
            else:
                # The refusal says that nothing was stored: another shard, and so another id, may take it.
                self._choose_again(lane, batch)
            # What waits behind it would meet the same refusal.
            for unsent in lane.take_unsent():
                self._choose_again(lane, unsent)
        else:
            self._fail(lane, batch, error)

    def _choose_again(self, lane: Lane, batch: Batch) -> None:
        now_ms = self._clock.monotonic_ms()
        refusal = lane.refusal if lane.refusal is not None and lane.refusal.reason in _FULL else None
        kept: Batch | None = None
        entries = list(zip(batch.request.events, batch.tickets, batch.indexes, strict=True))
        self.depths.answered(lane.shard_id, len(batch))
        for event, ticket, index in entries:
            is_derived = ids.is_derived(event.request_id)
            if ticket.is_given_up:
                self._settle(len(event.payload) + EVENT_OVERHEAD_BYTES)
                ticket.refuse(index, _given_up())
            elif now_ms - ticket.arrived_ms > self._settings.hold_ms or (is_derived and refusal is not None):
                self._settle(len(event.payload) + EVENT_OVERHEAD_BYTES)
                ticket.refuse(
                    index, EvenflowError.from_detail(refusal) if refusal is not None else self._no_shard(ticket)
                )
            elif is_derived:
                # Its shard is named by the token: it waits there.
                if kept is None:
                    self._batch_id += 1
                    kept = Batch(self._batch_id, lane.shard_id, batch.opened_ms)
                    lane.again.append(kept)
                kept.request.events.append(event)
                kept.tickets.append(ticket)
                kept.indexes.append(index)
                kept.size_bytes += len(event.payload) + EVENT_OVERHEAD_BYTES
                self.depths.sent(lane.shard_id)
            else:
                other = self._choose(event.tenant_id, now_ms)
                if other is None:
                    self._hold(event, ticket, index)
                else:
                    self._put(other, event, ticket, index)

    def _answer_one_by_one(self, batch: Batch, answer: queue_pb2.EnqueueResponse) -> None:
        refused = {r.index: EvenflowError.from_detail(r.error) for r in answer.event_refusals}
        duplicates = set(answer.duplicate_indexes)
        self._settle(batch.size_bytes, len(batch))
        for position, (ticket, index) in enumerate(zip(batch.tickets, batch.indexes, strict=True)):
            if position in refused:
                ticket.refuse(index, refused[position])
            elif position in duplicates and ids.is_derived(ticket.request_ids[index]):
                ticket.accept_duplicate(index)
            else:
                # A minted id that was there already is our own resend: for the caller it is new.
                ticket.accept(index)

    def _fail(self, lane: Lane, batch: Batch, error: EvenflowError) -> None:
        self.depths.answered(lane.shard_id, len(batch))
        self._settle(batch.size_bytes, len(batch))
        for ticket, index in zip(batch.tickets, batch.indexes, strict=True):
            ticket.refuse(index, error)

    def _settle(self, size_bytes: int, events: int = 1) -> None:
        self.pending_events -= events
        self.pending_bytes -= size_bytes

    def _no_shard(self, ticket: Ticket) -> EvenflowError:
        waited_ms = self._clock.monotonic_ms() - ticket.arrived_ms
        return EvenflowError(
            Reason.ERROR_REASON_SHARD_UNAVAILABLE,
            f"no healthy shard within {waited_ms:.0f} ms: nothing was accepted, try again",
            RETRY_AFTER_MS,
        )

    def _start_span(
        self, ticket: Ticket, index: int, target: Target, trace: event_pb2.TraceContext
    ) -> event_pb2.TraceContext:
        span = self._tracer.start(
            "frontend.invoke_async",
            trace,
            kind=SpanKind.PRODUCER,
            attributes={
                "faas.name": target.function_name,
                "evenflow.tenant_id": target.tenant_id,
                "messaging.operation.type": "create",
            },
        )
        if span is not None:
            if ticket.spans is None:
                ticket.spans = {}
            ticket.spans[index] = span
        return self._tracer.context_of(span, trace)


def _given_up() -> EvenflowError:
    return EvenflowError(
        Reason.ERROR_REASON_DEADLINE_EXCEEDED,
        "the caller's time was over before a shard was found: nothing was accepted",
    )


def _overdue(lane: Lane, is_unknown: bool) -> EvenflowError:
    shard = {"shard_id": str(lane.shard_id)}
    if is_unknown:
        return EvenflowError(
            Reason.ERROR_REASON_OUTCOME_UNKNOWN,
            f"shard {lane.shard_id} did not answer in time: the event may or may not have been accepted",
            RETRY_AFTER_MS,
            shard,
        )
    return EvenflowError(
        Reason.ERROR_REASON_SHARD_UNAVAILABLE,
        f"shard {lane.shard_id} is not available now: nothing was accepted, try again",
        RETRY_AFTER_MS,
        shard,
    )
