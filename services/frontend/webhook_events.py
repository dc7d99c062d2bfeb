"""Accepts the events that webhooks make: all of a request durable, or the sender is asked to post it again."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from services.frontend.callers import Callers
from services.frontend.submissions import Submission, Submissions
from services.frontend.tickets import Ticket
from services.shared.errors import EvenflowError, Reason

# Events of one request.
MAX_EVENTS = 4_000


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """One event for one function. `client_token`: the same however often it is posted."""

    function_name: str
    qualifier: str
    payload: bytes
    client_token: str


class WebhookEvents:
    """Submits as the tenant whose webhook it is."""

    def __init__(self, submissions: Submissions, callers: Callers) -> None:
        self._submissions = submissions
        self._callers = callers

    async def accept(
        self, tenant_id: str, source: str, events: Sequence[WebhookEvent], arrived_ms: float
    ) -> tuple[int, list[EvenflowError]]:
        """How many are durable, and the refusals that no repeat would change.

        EvenflowError: one of them may be accepted later, so that the sender is to repeat all; those that are durable
        stay one event each. REQUEST_TOO_LARGE: more than 4,000.
        """
        if len(events) > MAX_EVENTS:
            raise EvenflowError(
                Reason.ERROR_REASON_REQUEST_TOO_LARGE, f"{len(events):,} events at once; at most {MAX_EVENTS:,}"
            )
        if not events:
            return 0, []
        done: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        caller = self._callers.of_tenant(tenant_id)
        submissions = [
            Submission(
                caller,
                event.function_name,
                event.qualifier,
                event.payload,
                source,
                client_token=event.client_token,
                from_fleet=True,
            )
            for event in events
        ]

        def on_done(ticket: Ticket) -> None:
            self._submissions.finish(ticket, submissions, "webhook")
            if not done.done():
                done.set_result(ticket)

        ticket = Ticket(len(submissions), arrived_ms, on_done)
        for index, submission in enumerate(submissions):
            self._submissions.take(ticket, index, submission)
        errors = [error for error in map((await done).error, range(len(events))) if error is not None]
        # The token is of this very happening: another body under it is the same told in other words.
        refusals = [error for error in errors if error.reason != Reason.ERROR_REASON_TOKEN_REUSED]
        for error in refusals:
            if error.kind.retryable:
                raise error
        return len(events) - len(refusals), refusals
