"""The way out of a lease: the event ends, or goes back to its shard. What happens is policy's; here it is settled."""

import random
from collections.abc import Callable

from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2

from services.policy import retry
from services.policy.retry import Ending, Why
from services.poller import settlements
from services.poller.functions import FunctionBook, Plan
from services.poller.held import Held
from services.poller.telemetry import Telemetry
from services.shared.clock import Clock

_S = event_pb2.OutcomeStatus
ENDINGS = {
    _S.OUTCOME_STATUS_SUCCEEDED: Ending.SUCCEEDED,
    _S.OUTCOME_STATUS_FUNCTION_ERROR: Ending.FUNCTION_ERROR,
    _S.OUTCOME_STATUS_THROTTLED: Ending.THROTTLED,
    _S.OUTCOME_STATUS_SYSTEM_ERROR: Ending.SYSTEM_ERROR,
}
ERROR_NAMES = {
    Why.EVENT_AGE_EXCEEDED: "The event was older than its maximum age, or would have been at its next retry.",
    Why.ZERO_RESERVED_CONCURRENCY: "The function's reserved concurrency is 0.",
    Why.RECURSION_STOPPED: "The chain of functions reached its 16th invocation.",
    Why.FUNCTION_NOT_FOUND: "The function, or the version or alias that the event names, does not exist any more.",
    Why.RETRIES_EXHAUSTED: "All attempts failed.",
}


class Endings:
    """Settles leases that are over for this poller."""

    def __init__(
        self,
        clock: Clock,
        functions: FunctionBook,
        telemetry: Telemetry,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._functions = functions
        self._telemetry = telemetry
        self._draw = draw

    def finish(
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
        if why is not Why.SUCCESS:
            self._telemetry.dropped(held)
            if why is Why.RECURSION_STOPPED:
                self._telemetry.recursion_stopped(held)
            if outcome is None:
                self._telemetry.attempt_ends(held, why.value)
        destination, dead_letter_arn = _targets(held, plan, why)
        if destination or dead_letter_arn:
            self._hand_over(held, why, destination, dead_letter_arn, outcome, last)
        elif why is Why.SUCCESS:
            node.settle(held, settlements.ack(held.receipt, condition, outcome=outcome))
        else:
            told = outcome or last
            error_type = (told.error_type if told is not None else "") or why.value
            message = (told.error_message if told is not None else "") or ERROR_NAMES[why]
            self._telemetry.log_failure(held, "dead letter (%s): %s: %s", why.value, error_type, message)
            node.settle(held, settlements.dead_letter(held.receipt, condition, error_type, message, outcome=outcome))

    def decide(self, held: Held, plan: Plan, ending: Ending, outcome: event_pb2.Outcome) -> None:
        """After a run that failed, or a try that was refused: it comes back, or ends."""
        decision = retry.decide(ending, progress_of(held), plan.rules, self._clock.wall_ms(), self._draw())
        if isinstance(decision, retry.Finish):
            self.finish(held, plan, decision.why, outcome if ending is Ending.FUNCTION_ERROR else None, outcome)
            return
        self._telemetry.retried(held, decision.cause.name.lower())
        cause = settlements.CAUSES[decision.cause]
        held.node.settle(held, settlements.release(held.receipt, decision.delay_ms, cause, outcome=outcome))

    def give_back(self, held: Held) -> None:
        """Untouched, at once."""
        self._telemetry.attempt_ends(held)
        held.node.settle(held, settlements.release(held.receipt, 0, queue_pb2.RELEASE_CAUSE_UNSTARTED))

    def release_no_room(self, held: Held) -> None:
        """Untouched, after a while."""
        plan = self._functions.peek(held.key, held.qualifier)
        rules = retry.Rules()
        if plan is not None:
            rules = plan.rules
            held.version = held.version or plan.choose(self._draw)
        decision = retry.decide(Ending.NO_ROOM, progress_of(held), rules, self._clock.wall_ms(), self._draw())
        if isinstance(decision, retry.Finish):
            self.finish(held, plan, decision.why, None)
            return
        self._telemetry.attempt_ends(held, "no runtime host had room")
        self._telemetry.retried(held, decision.cause.name.lower())
        cause = settlements.CAUSES[decision.cause]
        held.node.settle(held, settlements.release(held.receipt, decision.delay_ms, cause))

    def _hand_over(
        self,
        held: Held,
        why: Why,
        destination: str,
        dead_letter_arn: str,
        outcome: event_pb2.Outcome | None,
        last: event_pb2.Outcome | None,
    ) -> None:
        if outcome is not None:
            told = outcome
            # The handover's settle counts this run.
            held.attempt += 1
        else:
            told = settlements.not_run(why, last, held.throttles, ERROR_NAMES[why])
        condition = settlements.CONDITIONS[why]
        settlement = settlements.handover(
            held.receipt, condition, destination, dead_letter_arn, told, self._clock.wall_ms()
        )
        held.handover = settlement.handover
        held.node.settle(held, settlement, settles=False)


def lost_outcome(host_id: str) -> event_pb2.Outcome:
    """Of a run whose host broke away, or said nothing for too long."""
    return event_pb2.Outcome(
        status=_S.OUTCOME_STATUS_SYSTEM_ERROR,
        error_type="ServiceException",
        error_message=f"the outcome of runtime host {host_id} was lost: the run may have happened",
    )


def progress_of(held: Held) -> retry.Progress:
    """What policy needs to know of the event's past."""
    event = held.event
    return retry.Progress(held.function_errors, held.throttles, event.accepted_at_ms, event.expires_at_ms)


def _targets(held: Held, plan: Plan | None, why: Why) -> tuple[str, str]:
    """ARN of the destination, and of the dead-letter queue of the version that ran or was to run; empty: none."""
    if plan is None or why is Why.FUNCTION_NOT_FOUND:
        return "", ""
    if why is Why.SUCCESS:
        return plan.on_success, ""
    destination = plan.on_stop if why is Why.RECURSION_STOPPED else plan.on_failure
    return destination, held.version.dead_letter_arn if held.version is not None else ""
