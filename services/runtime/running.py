"""What goes to a sandbox for a run, and what is written when it ends."""

from evenflow.common.v1 import event_pb2

from services.runtime import log_lines
from services.runtime.runs import Run, trace_header_of
from services.runtime.sandbox import frames
from services.runtime.sandboxes import TAIL_BYTES


def invoke_frame(run: Run, arn: str, deadline_ms: int) -> bytes:
    """The INVOKE frame of a run."""
    invocation = run.invocation
    return frames.pack_invoke(
        invocation.request_id,
        deadline_ms,
        arn.encode(),
        trace_header_of(invocation),
        invocation.client_context.encode(),
        invocation.payload,
    )


def finish_lines(run: Run, outcome: event_pb2.Outcome, memory_mb: int) -> bytes:
    """END and REPORT of a run."""
    note = ""
    if outcome.error_type == "Sandbox.Timedout":
        note = "Status: timeout"
    elif outcome.error_type == "Runtime.ExitError":
        note = "Status: error\tError Type: Runtime.ExitError"
    return log_lines.end_and_report(
        run.request_id,
        outcome.duration_us,
        log_lines.billed_ms_of(outcome.duration_us),
        memory_mb,
        outcome.max_memory_mb,
        outcome.init_duration_us,
        note,
    )


def tail_of(output: bytearray, request_id: str, lines: bytes) -> bytes:
    """The last 4 KiB of a run's log."""
    return (log_lines.start(request_id, "$LATEST") + bytes(output) + lines)[-TAIL_BYTES:]
