"""What one event asks of its handler. Pure; an event's payload is this as JSON."""

import json
import random
from dataclasses import dataclass

# The exception of a handler whose event told it to fail (handler.Asked), as doors name its type.
ASKED = "Asked"
# Of a run's number.
RUN_BITS = 32
MAX_WORK_MS = 900_000.0
MAX_ALLOCATE_MIB = 10_240
# Just below what an asynchronous event may carry, for everything else in it.
MAX_PAD_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Work:
    """What the handlers of one run do: they sleep or burn CPU for the event's time, allocate, and fail at a rate.

    sleep_ms, burn_ms: added to the time that the schedule gives the event (`Arrivals.work_ms`, slept). allocate_mib:
    touched and given back. fail_rate: part of the events, 0 to 1, whose handler raises, on every attempt. pad_bytes
    and pad_bytes_max: bytes added to the payload, each event's own drawn evenly between the two; without the
    latter, always the former.
    """

    sleep_ms: float = 0.0
    burn_ms: float = 0.0
    allocate_mib: int = 0
    fail_rate: float = 0.0
    pad_bytes: int = 0
    pad_bytes_max: int = 0

    def __post_init__(self) -> None:
        """ValueError: not within bounds."""
        for name, value, most in (
            ("sleep_ms", self.sleep_ms, MAX_WORK_MS),
            ("burn_ms", self.burn_ms, MAX_WORK_MS),
            ("allocate_mib", self.allocate_mib, MAX_ALLOCATE_MIB),
            ("fail_rate", self.fail_rate, 1.0),
            ("pad_bytes", self.pad_bytes, MAX_PAD_BYTES),
            ("pad_bytes_max", self.pad_bytes_max, MAX_PAD_BYTES),
        ):
            if not 0 <= value <= most:
                raise ValueError(f"{name} must be within 0 to {most:g}, not {value:g}")


def is_asked(error_type: str) -> bool:
    """Whether a function error of this type is what the event asked for."""
    return error_type == ASKED


def is_told_to_fail(work: Work, run: int, number: int) -> bool:
    """Whether the payload of this event says so."""
    return work.fail_rate > 0 and _draw(run, number).random() < work.fail_rate


def _draw(run: int, number: int) -> random.Random:
    return random.Random(f"work {run} {number}")


def payload(work: Work, run: int, number: int, work_ms: float = 0.0) -> bytes:
    """The payload of one event of one run. Its draws are its number's own: the same event, the same work.

    run: tells runs apart in what handlers leave behind, 0 to 2**32 - 1; number: the event's, as in Arrivals.
    """
    told: dict[str, object] = {"run": run, "number": number}
    if sleep_ms := work.sleep_ms + work_ms:
        told["sleep_ms"] = round(sleep_ms, 3)
    if work.burn_ms:
        told["burn_ms"] = work.burn_ms
    if work.allocate_mib:
        told["allocate_mib"] = work.allocate_mib
    pad_bytes = work.pad_bytes
    if work.fail_rate or work.pad_bytes_max:
        draw = _draw(run, number)
        if draw.random() < work.fail_rate:
            told["fails"] = True
        if work.pad_bytes_max:
            pad_bytes = draw.randint(*sorted((work.pad_bytes, work.pad_bytes_max)))
    if pad_bytes:
        told["pad"] = "x" * pad_bytes
    return json.dumps(told, separators=(",", ":")).encode()
