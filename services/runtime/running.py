"""What goes to a sandbox for a run, and what is written when it ends."""

import json

from evenflow.common.v1 import event_pb2

from services.policy.records import iso_ms
from services.runtime import log_lines, runs
from services.runtime.runs import Run, trace_header_of
from services.runtime.sandbox import frames
from services.runtime.sandboxes import TAIL_BYTES, Sandbox
from services.shared.clock import Clock

TIMED_OUT = "Sandbox.Timedout"
EXITED = "Runtime.ExitError"


def invoke_frame(run: Run, arn: str, timeout_ms: int, *, is_ahead: bool) -> bytes:
    """The INVOKE frame of a run; `is_ahead`: another one is still under way."""
    invocation = run.invocation
    return frames.pack_invoke(
        invocation.request_id,
        timeout_ms,
        arn.encode(),
        trace_header_of(invocation),
        invocation.client_context.encode(),
        invocation.payload,
        is_ahead=is_ahead,
    )


def finished(run: Run, outcome: event_pb2.Outcome, memory_mb: int, *, is_restored: bool = False) -> bytes:
    """END and REPORT of a run; gives its outcome the log tail when that was asked for."""
    note = ""
    if outcome.error_type == TIMED_OUT:
        note = "Status: timeout"
    elif outcome.error_type == EXITED:
        note = f"Status: error\tError Type: {EXITED}"
    lines = log_lines.end_and_report(
        run.request_id,
        outcome.duration_us,
        outcome.billed_duration_ms,
        memory_mb,
        outcome.max_memory_mb,
        outcome.init_duration_us,
        note,
        is_restored=is_restored,
    )
    if run.tail is not None:
        start = log_lines.start(run.request_id, outcome.executed_version)
        outcome.log_tail = log_lines.tail_of(start, bytes(run.tail), lines, TAIL_BYTES)
    return lines


def start_failed(run: Run, outcome: event_pb2.Outcome, memory_mb: int) -> bytes:
    """The lines of a run whose sandbox could not be started; names the run in the outcome where AWS does."""
    lines = log_lines.start(run.request_id, outcome.executed_version) + finished(run, outcome, memory_mb)
    if outcome.error_type in (EXITED, TIMED_OUT):
        outcome.error_message = f"RequestId: {run.request_id} Error: {outcome.error_message}"
        outcome.response_payload = log_lines.error_payload(outcome.error_type, outcome.error_message)
    else:
        outcome.response_payload = _with_request_id(outcome.response_payload, run.request_id)
    return lines


def _with_request_id(payload: bytes, request_id: str) -> bytes:
    """The error object of a handler that could not be loaded, naming the run that it was loaded for."""
    try:
        error = json.loads(payload)
    except ValueError:
        return payload
    if not isinstance(error, dict) or "requestId" in error:
        return payload
    names = ("errorMessage", "errorType")
    first = {name: error.pop(name) for name in names if name in error}
    return json.dumps({**first, "requestId": request_id, **error}).encode()


def died(
    run: Run, sandbox: Sandbox, timeout_ms: int, status: int | None, clock: Clock
) -> tuple[event_pb2.Outcome, bytes]:
    """The outcome of a run whose sandbox is dead, and what its log says; `status` as wait(2) gives it."""
    duration_us = int((clock.monotonic_ms() - run.begun_ms) * 1_000)
    started_ns = clock.wall_ns() - duration_us * 1_000
    if sandbox.end_cause == "timeout":
        text, error_type = log_lines.timed_out_text(timeout_ms / 1_000), TIMED_OUT
        duration_us = timeout_ms * 1_000
    else:
        text, error_type = log_lines.exit_text(status, sandbox.end_cause), EXITED
    message = f"RequestId: {run.request_id} Error: {text}"
    lines = f"{message}\n{error_type}\n"
    if error_type == TIMED_OUT:
        lines = f"{iso_ms(clock.wall_ms())} {run.request_id} {text}\n\n"
    outcome = runs.of_failure(
        error_type,
        message,
        log_lines.error_payload(error_type, message),
        version=sandbox.function.number,
        sandbox_id=sandbox.sandbox_id,
        started_ns=started_ns,
        duration_us=duration_us,
        init_us=sandbox.init_us if sandbox.is_cold else 0,
        max_rss_kb=max(sandbox.max_rss_kb, sandbox.seen_rss_kb),
    )
    return outcome, lines.encode()
