"""What every part of the HTTP door answers with: ids, the date, refusals; and what the door still owes."""

import logging

from services.frontend import http_answers
from services.frontend.http_protocol import HttpConnection, HttpRequest
from services.frontend.lambda_api.errors import ApiError
from services.frontend.telemetry import Telemetry
from services.shared import ids
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason

log = logging.getLogger(__name__)


class Replies:
    """Of one door. `owed`: requests taken and not answered yet, those that answer at once aside."""

    def __init__(self, telemetry: Telemetry, clock: Clock) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._date = http_answers.DateHeader()
        self.owed = 0
        self.is_draining = False

    def new_id(self) -> str:
        """A request id for what is no event."""
        return ids.to_text(ids.mint(self._clock.wall_ms(), 0))

    def now(self) -> bytes:
        """The Date header of this moment."""
        return self._date.line(self._clock.wall_ms())

    def refuse(
        self,
        connection: HttpConnection,
        request: HttpRequest,
        error: EvenflowError | ApiError,
        request_id: str,
        tenant_id: str = "",
    ) -> None:
        """Answer a refusal and count it."""
        if isinstance(error, ApiError):
            self._telemetry.refusals.add(1, reason=error.code, door="http")
            connection.answer(request, *http_answers.api_error(error, request_id, self.now()))
            return
        self._telemetry.refused(error, "http", request_id, tenant_id)
        connection.answer(request, *http_answers.error(error, request_id, self.now()))

    def fail(
        self, connection: HttpConnection, request: HttpRequest, what: str, request_id: str, tenant_id: str = ""
    ) -> None:
        """Answer an exception that nobody expected, from its handler; its trace goes to the log."""
        log.exception("%s could not be handled", what, extra={"request_id": request_id})
        error = EvenflowError(Reason.ERROR_REASON_INTERNAL, "a fault of Evenflow's own; its log has the details")
        self.refuse(connection, request, error, request_id, tenant_id)
