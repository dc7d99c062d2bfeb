"""From a lease to its settlement: placed at a host, decided by policy, settled or handed over. Callbacks, no tasks."""

import random
from collections import deque
from collections.abc import Callable

from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2

from services.policy import retry
from services.policy.arns import LATEST
from services.policy.retry import Ending, Why
from services.poller import settlements
from services.poller.deliveries import Deliveries
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

_S = event_pb2.OutcomeStatus
_ENDINGS = {
    _S.OUTCOME_STATUS_SUCCEEDED: Ending.SUCCEEDED,
    _S.OUTCOME_STATUS_FUNCTION_ERROR: Ending.FUNCTION_ERROR,
    _S.OUTCOME_STATUS_THROTTLED: Ending.THROTTLED,
    _S.OUTCOME_STATUS_SYSTEM_ERROR: Ending.SYSTEM_ERROR,
}
MAX_PLACINGS = 8
ERROR_NAMES = {
    Why.EVENT_AGE_EXCEEDED: "The event was older than its maximum age, or would have been at its next retry.",
    Why.ZERO_RESERVED_CONCURRENCY: "The function's reserved concurrency is 0.",
    Why.RECURSION_STOPPED: "The chain of functions reached its 16th invocation.",
    Why.FUNCTION_NOT_FOUND: "The function does not exist any more.",
    Why.RETRIES_EXHAUSTED: "All attempts failed.",
}


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
        telemetry: Telemetry,
        wake_queues: Callable[[], None],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._functions = functions
        self._lookups = lookups
        self._window = window
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
            self._give_back(held)
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
            self._give_back(held)
        self._drop_over()
        self._room_changed()

    def node_gone(self, node: QueueNode) -> None:
        """The node left the fleet: nothing of it can be settled any more."""
        for held in list(node.leases):
            self._telemetry.attempt_ends(held, "the queue node is gone")
            node.forget(held)
        self._drop_over()
        self._room_changed()

    # --- RunOwner

    def ended(self, held: Held, plan: Plan, outcome: event_pb2.Outcome) -> None:
        """A run has its outcome: decide and settle."""
        plan.running.count -= 1
        if outcome.started_at_unix_nano:
            self.pace.ended(plan.key, plan.running, outcome.duration_us / 1_000, self._clock.monotonic_ms())
        if held.stage is not Stage.RUNNING:
            return
        ending = _ENDINGS.get(outcome.status, Ending.SYSTEM_ERROR)
        if ending is Ending.SUCCEEDED:
            if held.attempt == 1:
                self._telemetry.first_start(held, outcome)
            # The plan of now: the destination may have been set or taken away during the run.
            self._finish(held, self._functions.find(held.key) or plan, Why.SUCCESS, outcome)
            return
        self._failed(held, plan, outcome, ending)

    def unsent(self, held: Held, plan: Plan) -> None:
        """Nothing ran: it waits for another host, in front."""
        plan.running.count -= 1
        if held.stage is Stage.RUNNING:
            self._place_again(held, plan)

    def lost(self, held: Held, plan: Plan, host_id: str) -> None:
        """The outcome is not known: it may have run, and runs again. No attempt, no function error."""
        outcome = event_pb2.Outcome(
            status=_S.OUTCOME_STATUS_SYSTEM_ERROR,
            error_type="ServiceException",
            error_message=f"the outcome of runtime host {host_id} was lost: the run may have happened",
        )
        self.ended(held, plan, outcome)

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
                self._release_no_room(held)
            self._drop_over()
        for host in self.hosts:
            for invocation_id, (held, plan) in list(host.running.items()):
                allowed_ms = plan.function.latest.timeout_ms + lost_after_ms
                if now_ms - held.running_since_ms > allowed_ms:
                    host.give_up(invocation_id)
        self._pump()
        self._room_changed()

    def drain(self) -> None:
        """Start nothing any more: what waits goes back, what runs is settled."""
        self.is_draining = True
        self._window.is_closed = True
        for held, _ in self._pending:
            self._give_back(held)
        self._drop_over()

    # --- the way in

    def _begin(self, held: Held) -> None:
        if self.is_draining:
            self._give_back(held)
            return
        if held.handover is not None:
            self.deliveries.start(held)
            return
        plan = self._functions.find(held.key)
        if plan is None:
            self._lookups.ask(held.key, lambda is_answered: self._looked_up(held, is_answered))
        else:
            self._run(held, plan)

    def _looked_up(self, held: Held, is_answered: bool) -> None:
        if held.stage is not Stage.PENDING:
            return
        plan = self._functions.find(held.key)
        if self.is_draining:
            self._give_back(held)
        elif plan is not None:
            self._run(held, plan)
        elif is_answered:
            self._finish(held, None, Why.FUNCTION_NOT_FOUND, None)
        else:
            # Whether the function exists is not known.
            self._release_no_room(held)

    def _run(self, held: Held, plan: Plan) -> None:
        event = held.event
        if event.qualifier not in (LATEST, ""):
            self._finish(held, plan, Why.FUNCTION_NOT_FOUND, None)
            return
        finish = retry.before_run(
            _progress(held),
            plan.rules,
            self._clock.wall_ms(),
            is_expired=held.is_expired,
            is_closed=plan.is_closed,
            chain_depth=event.lineage.chain_depth,
        )
        if finish is not None:
            self._finish(held, plan, finish.why, None)
            return
        self._telemetry.attempt_begins(held)
        if self._pending or not self._place(held, plan):
            self._pending.append((held, plan))

    def _place(self, held: Held, plan: Plan) -> bool:
        if not self.hosts.place(held, plan):
            return False
        held.placings += 1
        held.running_since_ms = self._clock.monotonic_ms()
        held.node.change_stage(held, Stage.RUNNING)
        plan.running.count += 1
        return True

    def _pump(self) -> None:
        pending = self._pending
        while pending:
            held, plan = pending[0]
            # A newer configuration than at its arrival counts.
            if held.stage is Stage.PENDING and not self._place(held, self._functions.find(held.key) or plan):
                if not held.avoided:
                    return
                # The host that it was to have instead is full by now: it must not hold up who waits behind it.
                held.avoided = ()
                continue
            pending.popleft()

    def _is_placed_elsewhere(self, held: Held, plan: Plan) -> bool:
        held.avoided = (*held.avoided, held.host_id)
        if plan.is_closed or held.placings >= MAX_PLACINGS or not self.hosts.has_other(held):
            return False
        self._place_again(held, plan)
        return True

    def _place_again(self, held: Held, plan: Plan) -> None:
        held.node.change_stage(held, Stage.PENDING)
        if self.is_draining:
            self._give_back(held)
        else:
            self._pending.appendleft((held, plan))

    # --- the way out

    def _failed(self, held: Held, plan: Plan, outcome: event_pb2.Outcome, ending: Ending) -> None:
        plan = self._functions.find(held.key) or plan
        if ending is Ending.FUNCTION_ERROR:
            if held.attempt == 1 and outcome.started_at_unix_nano:
                self._telemetry.first_start(held, outcome)
            self._telemetry.attempt_failed(held, outcome)
            self._telemetry.log_failure(
                held, "attempt %d failed: %s: %s", held.attempt, outcome.error_type, outcome.error_message
            )
        elif outcome.refusal.reason == Reason.ERROR_REASON_FUNCTION_NOT_FOUND:
            # It was deleted since the lease came; the host has asked control.
            self._finish(held, plan, Why.FUNCTION_NOT_FOUND, None, outcome)
            return
        elif outcome.refusal.reason in TRY_ELSEWHERE and self._is_placed_elsewhere(held, plan):
            return
        elif outcome.refusal.reason in NO_ROOM:
            ending = Ending.NO_ROOM
        elif ending is Ending.THROTTLED:
            if plan.is_closed:
                # Its reserved concurrency became 0 while it was on its way.
                self._finish(held, plan, Why.ZERO_RESERVED_CONCURRENCY, None)
                return
            self.limits.throttled(plan, self._clock.monotonic_ms())
        decision = retry.decide(ending, _progress(held), plan.rules, self._clock.wall_ms(), self._draw())
        if isinstance(decision, retry.Finish):
            self._finish(held, plan, decision.why, outcome if ending is Ending.FUNCTION_ERROR else None, outcome)
            return
        self._telemetry.retried(held, decision.cause.name.lower())
        cause = settlements.CAUSES[decision.cause]
        held.node.settle(held, settlements.release(held.receipt, decision.delay_ms, cause, outcome=outcome))

    def _finish(
        self,
        held: Held,
        plan: Plan | None,
        why: Why,
        outcome: event_pb2.Outcome | None,
        last: event_pb2.Outcome | None = None,
    ) -> None:
        """End the event. `outcome`: of the run, None where nothing ran; `last`: what the last try said, for people."""
        condition = settlements.CONDITIONS[why]
        node = held.node
        destination = ""
        if plan is not None and why not in (Why.FUNCTION_NOT_FOUND, Why.RECURSION_STOPPED):
            destination = plan.on_success if why is Why.SUCCESS else plan.on_failure
        if why is not Why.SUCCESS:
            self._telemetry.dropped(held)
            if why is Why.RECURSION_STOPPED:
                self._telemetry.recursion_stopped(held)
            if outcome is None:
                self._telemetry.attempt_ends(held, why.value)
        if destination:
            settlement = settlements.handover(held.receipt, condition, destination, outcome)
            held.handover = settlement.handover
            if outcome is not None:
                # The handover's settle counts this run.
                held.attempt += 1
            node.settle(held, settlement, settles=False)
        elif why is Why.SUCCESS:
            node.settle(held, settlements.ack(held.receipt, condition, outcome=outcome))
        else:
            told = outcome or last
            error_type = (told.error_type if told is not None else "") or why.value
            message = (told.error_message if told is not None else "") or ERROR_NAMES[why]
            self._telemetry.log_failure(held, "dead letter (%s): %s: %s", why.value, error_type, message)
            node.settle(held, settlements.dead_letter(held.receipt, condition, error_type, message, outcome=outcome))

    def _give_back(self, held: Held) -> None:
        """Untouched, at once."""
        self._telemetry.attempt_ends(held)
        held.node.settle(held, settlements.release(held.receipt, 0, queue_pb2.RELEASE_CAUSE_UNSTARTED))

    def _release_no_room(self, held: Held) -> None:
        """Untouched, after a while."""
        plan = self._functions.peek(held.key)
        rules = plan.rules if plan is not None else retry.Rules()
        decision = retry.decide(Ending.NO_ROOM, _progress(held), rules, self._clock.wall_ms(), self._draw())
        if isinstance(decision, retry.Finish):
            self._finish(held, plan, decision.why, None)
            return
        self._telemetry.attempt_ends(held, "no runtime host had room")
        self._telemetry.retried(held, decision.cause.name.lower())
        cause = settlements.CAUSES[decision.cause]
        held.node.settle(held, settlements.release(held.receipt, decision.delay_ms, cause))

    def _drop_over(self) -> None:
        self._pending = deque(entry for entry in self._pending if entry[0].stage is Stage.PENDING)

    def _room_changed(self) -> None:
        self._window.pending = len(self._pending)
        self._window.host_room = self.hosts.room
        self._wake_queues()


def _progress(held: Held) -> retry.Progress:
    event = held.event
    return retry.Progress(held.function_errors, held.throttles, event.accepted_at_ms, event.expires_at_ms)
