"""Services that break one promise each, and the cell of the matrix that has to catch it.

Those of the queue nodes are power_loss's, as far as a dead process, and not only a dead machine, shows them.
"""

import dataclasses
import os
from typing import Any

VARIABLE = "EVENFLOW_TEST_MUTANT"
# By mutant: the cell that has to catch it.
CAUGHT_BY = {
    "answer-before-commit": "kill-queue-before-commit",
    "no-fencing": "freeze-poller",
    "delete-before-destination": "kill-poller-after-handover",
    "door-answers-first": "disk-full",
    "token-forgotten": "same-token",
    "ack-before-run": "kill-runtime-mid-run",
    "retries-forever": "retry-storm",
}
# The others are queue nodes.
_ROLES = {
    "door-answers-first": "frontend",
    "token-forgotten": "frontend",
    "ack-before-run": "poller",
    "retries-forever": "poller",
}


def install() -> None:
    """In a service's process: break what the environment names, if it is this service's."""
    name = os.environ.get(VARIABLE, "")
    if not name or not os.environ.get("EVENFLOW_NODE_ID", "").startswith(_ROLES.get(name, "queue")):
        return
    if name in _OWN:
        _OWN[name]()
        return
    from tests.faults.power_loss import mutants

    mutants.apply(name)


def _door_answers_first() -> None:
    """An answer does not wait for the shard."""
    from services.frontend.accept import Accepter
    from services.frontend.tickets import Ticket
    from services.shared.errors import EvenflowError, Reason

    submit = Accepter.submit

    def early(self: Accepter, ticket: Ticket, index: int, *arguments: Any, **more: Any) -> None:
        unheard = Ticket(len(ticket.request_ids), ticket.arrived_ms, lambda _ticket: None)
        submit(self, unheard, index, *arguments, **more)
        ticket.request_ids[index] = unheard.request_ids[index]
        if ticket.request_ids[index]:
            ticket.accept(index)
        else:
            ticket.refuse(index, EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "no shard"))

    Accepter.submit = early  # type: ignore[method-assign]


def _token_forgotten() -> None:
    """A token's repeat gets an id of its own."""
    from services.frontend.accept import Accepter

    submit = Accepter.submit

    def forgetful(self: Accepter, *arguments: Any, **more: Any) -> None:
        submit(self, *arguments, **{**more, "token": None})

    Accepter.submit = forgetful  # type: ignore[method-assign]


def _ack_before_run() -> None:
    """An event counts as done when its run begins."""
    from services.policy.retry import Why
    from services.poller.functions import Plan
    from services.poller.held import Held, Stage
    from services.poller.processing import Processing

    run = Processing._run

    def hasty(self: Processing, held: Held, plan: Plan) -> None:
        run(self, held, plan)
        if held.stage is Stage.RUNNING:
            self._endings.finish(held, None, Why.SUCCESS, None)

    Processing._run = hasty  # type: ignore[method-assign]


def _retries_forever() -> None:
    """A function's errors are never too many."""
    from services.policy import retry

    decide = retry.decide

    def patient(ending: retry.Ending, progress: retry.Progress, *arguments: Any) -> retry.Decision:
        return decide(ending, dataclasses.replace(progress, function_errors=0), *arguments)

    setattr(retry, "decide", patient)  # noqa: B010


_OWN = {
    "door-answers-first": _door_answers_first,
    "token-forgotten": _token_forgotten,
    "ack-before-run": _ack_before_run,
    "retries-forever": _retries_forever,
}
