"""One invocation on its way through this host, and the outcomes that it can have."""

from collections.abc import Callable

from evenflow.common.v1 import event_pb2
from evenflow.runtime.v1 import runtime_pb2

from services.policy import lineage
from services.runtime import log_lines
from services.runtime.sandbox.frames import Result
from services.shared import ids
from services.shared.errors import EvenflowError, Reason

# The step in which runs are billed.
MAX_UNBILLED_US = 1_000
_THROTTLES = (Reason.ERROR_REASON_CONCURRENCY_EXCEEDED, Reason.ERROR_REASON_RESERVED_CONCURRENCY_EXCEEDED)


class Run:
    """An invocation with the times it met; `deliver` takes its outcome, once."""

    __slots__ = (
        "begun_ms",
        "deliver",
        "expires_ms",
        "invocation",
        "is_sync",
        "output_bytes",
        "payload_bytes",
        "received_ns",
        "request_id",
        "tail",
        "waiting_since_ms",
    )

    def __init__(
        self,
        invocation: runtime_pb2.Invocation,
        deliver: Callable[["Run", event_pb2.Outcome], None],
        received_ns: int,
    ) -> None:
        self.invocation = invocation
        self.deliver = deliver
        self.received_ns = received_ns
        self.request_id = ids.to_text(invocation.request_id)
        self.is_sync = invocation.kind == runtime_pb2.INVOCATION_KIND_SYNC
        self.waiting_since_ms = 0.0
        self.expires_ms = 0.0
        self.begun_ms = 0.0
        self.output_bytes = 0
        self.payload_bytes = len(invocation.payload)
        self.tail: bytearray | None = bytearray() if invocation.wants_log_tail else None


def refused(error: EvenflowError) -> event_pb2.Outcome:
    """Nothing ran: THROTTLED for concurrency, SYSTEM_ERROR for everything else."""
    return event_pb2.Outcome(
        status=event_pb2.OUTCOME_STATUS_THROTTLED
        if error.reason in _THROTTLES
        else event_pb2.OUTCOME_STATUS_SYSTEM_ERROR,
        error_type=error.kind.aws_code,
        error_message=error.message[:1_024],
        refusal=error.to_detail(),
    )


def duration_us_of(claimed_us: int, elapsed_us: int, *, has_next: bool) -> int:
    """How long a run took: by the host's clock, and by the sandbox's word only where that says as much.

    claimed_us: the sandbox's word. elapsed_us: host's time since it was given the run, or since the one before ended.
    What the host's own load adds stays out of it up to MAX_UNBILLED_US: who lies gains no more than that. has_next: the
    result of a run after this one is here already: what of the time is not this run's is left to that one.
    """
    claimed_us = min(claimed_us, elapsed_us)
    return claimed_us if has_next or elapsed_us - claimed_us <= MAX_UNBILLED_US else elapsed_us


def of_result(
    result: Result, version: str, sandbox_id: str, init_us: int, *, duration_us: int, ended_ns: int, max_rss_kb: int
) -> event_pb2.Outcome:
    """The handler was run to its end. ended_ns: wall time of the host. max_rss_kb: the most that was seen or said."""
    return event_pb2.Outcome(
        status=event_pb2.OUTCOME_STATUS_FUNCTION_ERROR if result.is_error else event_pb2.OUTCOME_STATUS_SUCCEEDED,
        response_payload=result.payload,
        error_type=_printable(result.error_type.decode(errors="replace")),
        error_message=result.error_message.decode(errors="replace"),
        executed_version=version,
        started_at_unix_nano=ended_ns - duration_us * 1_000,
        duration_us=duration_us,
        billed_duration_ms=log_lines.billed_ms_of(duration_us),
        init_duration_us=init_us,
        max_memory_mb=megabytes_of(max_rss_kb),
        sandbox_id=sandbox_id,
    )


def of_failure(
    error_type: str,
    message: str,
    payload: bytes,
    *,
    version: str,
    sandbox_id: str,
    started_ns: int = 0,
    duration_us: int = 0,
    init_us: int = 0,
    max_rss_kb: int = 0,
) -> event_pb2.Outcome:
    """The handler did not come to its end, or could not be loaded: counts as an attempt."""
    return event_pb2.Outcome(
        status=event_pb2.OUTCOME_STATUS_FUNCTION_ERROR,
        response_payload=payload,
        error_type=_printable(error_type[:256]),
        error_message=message[:1_024],
        executed_version=version,
        started_at_unix_nano=started_ns,
        duration_us=duration_us,
        billed_duration_ms=log_lines.billed_ms_of(duration_us) if duration_us else 0,
        init_duration_us=init_us,
        max_memory_mb=megabytes_of(max_rss_kb),
        sandbox_id=sandbox_id,
    )


def _printable(error_type: str) -> str:
    """A name that cannot pass for anything else where it is shown; a class may have any name."""
    return error_type if error_type.isprintable() else "".join(c if c.isprintable() else "?" for c in error_type)


def megabytes_of(kilobytes: int) -> int:
    """Mebibytes, rounded up; bounded, as it comes out of a sandbox."""
    return min(-(-kilobytes // 1_024), 1 << 30)


def trace_header_of(invocation: runtime_pb2.Invocation) -> bytes:
    """The X-Ray form of the invocation's trace context; empty when there is none."""
    depth = invocation.lineage.chain_depth
    return lineage.trace_header(invocation.trace.traceparent, invocation.request_id, depth).encode()
