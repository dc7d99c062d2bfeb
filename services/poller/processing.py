"""From a lease to its settlement: placed at a host, decided by policy, settled or handed over. Callbacks, no tasks."""

import random
from collections import deque
from collections.abc import Callable

from evenflow.common.v1 import event_pb2

from services.policy import retry
from services.policy.retry import Ending, Why
from services.poller.deliveries import Deliveries
from services.poller.endings import ENDINGS, Endings, lost_outcome, progress_of
from services.poller.functions import FunctionBook, Plan
from services.poller.held import Held, Stage
from services.poller.limits import Limits
from services.poller.lookups import Lookups
from services.poller.pace import Pace
from services.poller.queue_node import QueueNode
from services.poller.runtime_fleet import RuntimeFleet
from services.poller.telemetry import Telemetry
from services.poller.window import Window
from services.shared.clock import Clock
from services.shared.errors import NO_ROOM, TRY_ELSEWHERE, EvenflowError, Reason

MAX_PLACINGS = 8


class Processing:
    """The heart of a poller. `hosts`, `deliveries`, `limits` and `pace` are set right after it is made."""

    hosts: RuntimeFleet
    deliveries: Deliveries
    limits: Limits
    pace: Pace

    def __init__(
        self,
        *,
        clock: Clock,
        functions: FunctionBook,
        lookups: Lookups,
        window: Window,
        endings: Endings,
        telemetry: Telemetry,
        wake_queues: Callable[[], None],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._functions = functions
        self._lookups = lookups
        self._window = window
        self._endings = endings
        self._telemetry = telemetry
        self._wake_queues = wake_queues
        self._draw = draw
        self._pending: deque[tuple[Held, Plan]] = deque()
        self.is_draining = False

    # --- LeaseOwner

    def leased(self, node: QueueNode, leases: list[Held]) -> None:
        """These leases came: each is run, resumed, ended or given back."""
        for held in leases:
            self._begin(held)
        self._room_changed()

    def settle_sent(self, held: Held) -> None:
        """The attempt's span ends here; that of a delivery has ended with the delivery."""
        self._telemetry.attempt_ends(held)

    def settled(self, held: Held) -> None:
        """A handover is durable: deliver, or leave it to the next poller. Anything else is over."""
        if held.stage is Stage.OVER or held.handover is None:
            return
        if self.is_draining:
            self._endings.give_back(held)
        else:
            self.deliveries.start(held)

    def stale(self, held: Held) -> None:
        """Somebody else may have the event: whatever comes of this run is passed over."""
        self._telemetry.stale_receipt(held)
        self._telemetry.attempt_ends(held, "stale receipt")
        self._telemetry.log_failure(held, "the lease has moved on: attempt %d is not settled", held.attempt)

    def settle_failed(self, held: Held, error: EvenflowError) -> None:
        """The shard will not take the settlement: the lease runs out and the event comes again."""
        settlement = held.settlement
        if settlement is not None and settlement.HasField("dead_letter"):
            self._telemetry.dead_letter_failed(held)
        self._telemetry.attempt_ends(held, error.message)
        self._telemetry.log_failure(held, "a settlement was refused: %s", error.message)

    def lease_link_down(self, node: QueueNode) -> None:
        """What has not started goes back: when the node was restarted, somebody else may have it already."""
        for held in [held for held, _ in self._pending if held.node is node]:
            self._endings.give_back(held)
        self._drop_over()

    def node_gone(self, node: QueueNode) -> None:
        """The node left the fleet: nothing of it can be settled any more."""
        for held in list(node.leases):
            self._telemetry.attempt_ends(held, "the queue node is gone")
            node.forget(held)
        self._drop_over()

    # --- RunOwner

    def ended(self, held: Held, plan: Plan, outcome: event_pb2.Outcome) -> None:
        """A run has its outcome: decide and settle."""
        if plan.reserved:
            self._functions.note_full(plan, self._clock.wall_ms())
        plan.running.ended(held.host_id)
        if outcome.started_at_unix_nano:
            plan.running.ran(held.host_id)
            self.pace.ended(plan.key, plan.running, outcome.duration_us / 1_000, self._clock.monotonic_ms())
        if held.stage is not Stage.RUNNING:
            return
        ending = ENDINGS.get(outcome.status, Ending.SYSTEM_ERROR)
        if ending is Ending.SUCCEEDED:
            if held.attempt == 1:
                self._telemetry.first_start(held, outcome)
            # The plan of now: the destination may have been set or taken away during the run.
            self._endings.finish(held, self._functions.find(held.key, held.qualifier) or plan, Why.SUCCESS, outcome)
            return
        self._failed(held, plan, outcome, ending)

    def unsent(self, held: Held, plan: Plan) -> None:
        """Nothing ran: it waits for another host, in front."""
        plan.running.ended(held.host_id)
        if held.stage is Stage.RUNNING:
            self._place_again(held, plan)

    def lost(self, held: Held, plan: Plan, host_id: str) -> None:
        """The outcome is not known: it may have run, and runs again; that is no attempt."""
        self.ended(held, plan, lost_outcome(host_id))

    def host_has_room(self) -> None:
        """Send what waits, then let more come."""
        self._pump()
        self._room_changed()

    # --- time

    def tick(self, now_ms: float, pending_ms: float, lost_after_ms: float) -> None:
        """Give back what found no host for too long, and give up outcomes that never come."""
        overdue = [held for held, _ in self._pending if now_ms - held.received_ms > pending_ms]
        if overdue:
            for held in overdue:
                self._endings.release_no_room(held)
            self._drop_over()
        for host in self.hosts:
            for invocation_id, (held, _) in list(host.running.items()):
                timeout_ms = held.version.timeout_ms if held.version is not None else 0
                if now_ms - held.running_since_ms > timeout_ms + lost_after_ms:
                    host.give_up(invocation_id)
        self._pump()
        self._room_changed()

    def drain(self) -> None:
        """Start nothing any more: what waits goes back, what runs is settled."""
        self.is_draining = True
        self._window.is_closed = True
        for held, _ in self._pending:
            self._endings.give_back(held)
        self._drop_over()

    # --- the way in

    def _begin(self, held: Held) -> None:
        if self.is_draining:
            self._endings.give_back(held)
            return
        if held.handover is not None:
            self.deliveries.start(held)
            return
        plan = self._functions.find(held.key, held.qualifier)
        if plan is None or (plan.version is None and not plan.exists):
            self._lookups.ask(held.key, lambda is_answered: self._looked_up(held, is_answered))
        else:
            self._run(held, plan)

    def _looked_up(self, held: Held, is_answered: bool) -> None:
        if held.stage is not Stage.PENDING:
            return
        plan = self._functions.find(held.key, held.qualifier)
        if self.is_draining:
            self._endings.give_back(held)
        elif plan is not None and plan.exists:
            self._run(held, plan)
        elif is_answered:
            self._endings.finish(held, None, Why.FUNCTION_NOT_FOUND, None)
        else:
            # Whether the function exists is not known.
            self._endings.release_no_room(held)

    def _run(self, held: Held, plan: Plan) -> None:
        held.version = plan.version or plan.choose(self._draw)
        if plan.reserved and plan.running.full_at_ms > held.event.accepted_at_ms:
            self._telemetry.passed_over(held)
        finish = retry.before_run(
            progress_of(held),
            plan.rules,
            self._clock.wall_ms(),
            is_expired=held.is_expired,
            is_closed=plan.is_closed,
            chain_depth=held.event.lineage.chain_depth,
            allows_recursion=plan.allows_recursion,
        )
        if finish is not None:
            self._endings.finish(held, plan, finish.why, None)
            return
        self._telemetry.attempt_begins(held)
        if self._pending or not self._place(held, plan):
            self._pending.append((held, plan))

    def _place(self, held: Held, plan: Plan) -> bool:
        now_ms = self._clock.monotonic_ms()
        if not self.hosts.place(held, plan, now_ms):
            return False
        held.placings += 1
        held.running_since_ms = now_ms
        held.node.change_stage(held, Stage.RUNNING)
        plan.running.began(held.host_id)
        if plan.reserved:
            self._functions.note_full(plan, self._clock.wall_ms())
        return True

    def _pump(self) -> None:
        pending = self._pending
        while pending:
            held, plan = pending[0]
            if held.stage is Stage.PENDING and not self._place(held, self._current(held, plan)):
                if not held.avoided:
                    return
                # The host that it was to have instead is full by now: it must not hold up who waits behind it.
                held.avoided = ()
                continue
            pending.popleft()

    def _current(self, held: Held, plan: Plan) -> Plan:
        """The plan of now: a newer configuration than at the event's arrival counts, as far as there still is one."""
        now = self._functions.find(held.key, held.qualifier)
        version = now.choose(self._draw) if now is not None and now is not plan else None
        if now is None or version is None:
            return plan
        held.version = version
        return now

    def _is_placed_elsewhere(self, held: Held, plan: Plan, outcome: event_pb2.Outcome) -> bool:
        if outcome.refusal.reason == Reason.ERROR_REASON_RESERVED_CONCURRENCY_EXCEEDED:
            plan.running.refused(held.host_id, self._clock.monotonic_ms())
        held.avoided = (*held.avoided, held.host_id)
        if plan.is_closed or held.placings >= MAX_PLACINGS or not self.hosts.has_other(held):
            return False
        self._place_again(held, plan)
        return True

    def _place_again(self, held: Held, plan: Plan) -> None:
        held.node.change_stage(held, Stage.PENDING)
        if self.is_draining:
            self._endings.give_back(held)
        else:
            self._pending.appendleft((held, plan))

    # --- the way out

    def _failed(self, held: Held, plan: Plan, outcome: event_pb2.Outcome, ending: Ending) -> None:
        plan = self._functions.find(held.key, held.qualifier) or plan
        if ending is Ending.FUNCTION_ERROR:
            if held.attempt == 1 and outcome.started_at_unix_nano:
                self._telemetry.first_start(held, outcome)
            self._telemetry.attempt_failed(held, outcome)
            self._telemetry.log_failure(
                held, "attempt %d failed: %s: %s", held.attempt, outcome.error_type, outcome.error_message
            )
        elif outcome.refusal.reason == Reason.ERROR_REASON_FUNCTION_NOT_FOUND:
            # It was deleted since the lease came; the host has asked control.
            self._endings.finish(held, plan, Why.FUNCTION_NOT_FOUND, None, outcome)
            return
        elif outcome.refusal.reason in TRY_ELSEWHERE and self._is_placed_elsewhere(held, plan, outcome):
            return
        elif outcome.refusal.reason in NO_ROOM:
            ending = Ending.NO_ROOM
        elif ending is Ending.THROTTLED:
            if plan.is_closed:
                # Its reserved concurrency became 0 while it was on its way.
                self._endings.finish(held, plan, Why.ZERO_RESERVED_CONCURRENCY, None)
                return
            self.limits.throttled(plan, self._clock.monotonic_ms())
        self._endings.decide(held, plan, ending, outcome)

    def _drop_over(self) -> None:
        self._pending = deque(entry for entry in self._pending if entry[0].stage is Stage.PENDING)
        self._room_changed()

    def _room_changed(self) -> None:
        self._window.pending = len(self._pending)
        self._window.host_room = self.hosts.room
        self._wake_queues()
