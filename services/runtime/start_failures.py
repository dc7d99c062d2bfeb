"""Why a start failed: the function's fault, which is the outcome of who waits, or the machine's, which may pass."""

from evenflow.common.v1 import event_pb2

from services.runtime import log_lines, runs
from services.runtime.sandbox import frames
from services.runtime.sandboxes import INIT_TIMEOUT, RESTORE_TIMEOUT, Sandbox
from services.runtime.templates import Template
from services.shared.errors import EvenflowError, Reason

RETRY_AFTER_MS = 1_000


class StartFailures:
    """Keeps what a sandbox said of its start until it is gone; each is asked for once."""

    def __init__(self, init_seconds: float) -> None:
        self._init_seconds = init_seconds
        self._failures: dict[int, event_pb2.Outcome] = {}
        self._faults: dict[int, EvenflowError] = {}

    def told(self, sandbox: Sandbox, kind: int, failure: frames.Failure) -> None:
        """Its own words: INIT_ERROR, the handler cannot be loaded; FAULT, the sandbox cannot be made."""
        if kind == frames.INIT_ERROR:
            self._failures[sandbox.number] = _outcome_of(sandbox, failure)
            return
        text = f"a sandbox cannot be made: {failure.error_message.decode(errors='replace')}"
        self._faults[sandbox.number] = EvenflowError(Reason.ERROR_REASON_INTERNAL, text, RETRY_AFTER_MS)

    def fault_of(self, sandbox: Sandbox, status: int) -> EvenflowError | None:
        """Why the start failed when that says nothing about the function: another try may do."""
        known = self._faults.pop(sandbox.number, None)
        is_late = sandbox.end_cause in (INIT_TIMEOUT, RESTORE_TIMEOUT)
        if known is not None or status >= 0 or is_late or sandbox.number in self._failures:
            return known
        text = "a sandbox cannot be started: its parent could not fork, or ended"
        return EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, text, RETRY_AFTER_MS)

    def outcome_of(self, sandbox: Sandbox, status: int) -> event_pb2.Outcome:
        """The function's own fault; what the sandbox did not say is said in its log. `status` as wait(2) gives it."""
        known = self._failures.pop(sandbox.number, None)
        if known is not None:
            return known
        if sandbox.end_cause == INIT_TIMEOUT:
            error_type, text = "Sandbox.Timedout", log_lines.timed_out_text(self._init_seconds)
        elif sandbox.end_cause == RESTORE_TIMEOUT:
            error_type, text = log_lines.RESTORE_TIMED_OUT
        else:
            error_type, text = "Runtime.ExitError", log_lines.exit_text(status, sandbox.end_cause)
        sandbox.function.log.append(f"{text}\n{error_type}\n".encode())
        return runs.of_failure(error_type, text, b"", version=sandbox.function.number, sandbox_id=sandbox.sandbox_id)

    def outcome_of_template(self, template: Template) -> event_pb2.Outcome:
        """As when a sandbox of its own fails so."""
        if template.failure is not None:
            return _outcome_of(template.sandbox, template.failure)
        return self.outcome_of(template.sandbox, template.status)


def _outcome_of(sandbox: Sandbox, failure: frames.Failure) -> event_pb2.Outcome:
    return runs.of_failure(
        failure.error_type.decode(errors="replace"),
        failure.error_message.decode(errors="replace"),
        failure.payload,
        version=sandbox.function.number,
        sandbox_id=sandbox.sandbox_id,
    )
