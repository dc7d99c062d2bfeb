"""What becomes of an event after a run, or before one that must not happen. Pure: time and randomness are handed in.

The rules are AWS's ("Asynchronous invocation" in its developer guide): function errors are tried again after base and
twice base, at most MaximumRetryAttempts times; throttles and system errors come back outside that count, from a second
to five minutes; and whatever would come back past the event's maximum age ends now.
"""

import enum
from dataclasses import dataclass

from services.policy import lineage
from services.policy.backoff import equal_jitter_ms, exponential_ms

DEFAULT_RETRY_ATTEMPTS = 2
MAX_RETRY_ATTEMPTS = 2
DEFAULT_MAX_AGE_MS = 21_600_000
MAX_CHAIN_DEPTH = lineage.MAX_CHAIN_DEPTH


class Ending(enum.Enum):
    """How a try ended."""

    SUCCEEDED = "succeeded"
    FUNCTION_ERROR = "function error"
    # Refused for concurrency: a throttle that was really returned.
    THROTTLED = "throttled"
    # The fleet failed, or cannot tell.
    SYSTEM_ERROR = "system error"
    # Nothing ran for want of room or because a host is leaving: nobody's fault, no counter grows.
    NO_ROOM = "no room"


class Why(enum.Enum):
    """Why processing ended; the values are the names of AWS's destination records."""

    SUCCESS = "Success"
    RETRIES_EXHAUSTED = "RetriesExhausted"
    EVENT_AGE_EXCEEDED = "EventAgeExceeded"
    ZERO_RESERVED_CONCURRENCY = "ZeroReservedConcurrency"
    RECURSION_STOPPED = "RecursionStopped"
    FUNCTION_NOT_FOUND = "FunctionNotFound"


class Cause(enum.Enum):
    """Which counter a retry grows."""

    FUNCTION_ERROR = "function error"
    THROTTLE = "throttle"
    UNSTARTED = "unstarted"


@dataclass(frozen=True, slots=True)
class Rules:
    """A function's async configuration and the fleet's retry settings; times in milliseconds."""

    max_retries: int = DEFAULT_RETRY_ATTEMPTS
    max_age_ms: int = DEFAULT_MAX_AGE_MS
    base_ms: float = 60_000.0
    throttle_base_ms: float = 1_000.0
    throttle_cap_ms: float = 300_000.0


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known of the event before this try: settled function errors, throttles in a row, when it was accepted.

    `latest_return_ms`: the wall time after which the shard keeps no event back any more; 0: no such time.
    """

    function_errors: int
    throttles: int
    accepted_at_ms: int
    latest_return_ms: int = 0


@dataclass(frozen=True, slots=True)
class Retry:
    """It comes back after `delay_ms`."""

    delay_ms: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Finish:
    """It ends."""

    why: Why


Decision = Retry | Finish
SUCCESS = Finish(Why.SUCCESS)
TOO_OLD = Finish(Why.EVENT_AGE_EXCEEDED)


def decide(ending: Ending, progress: Progress, rules: Rules, now_ms: int, unit_random: float) -> Decision:
    """What becomes of an event whose try ended so. `unit_random` is within [0, 1)."""
    match ending:
        case Ending.SUCCEEDED:
            return SUCCESS
        case Ending.FUNCTION_ERROR:
            if progress.function_errors >= rules.max_retries:
                return Finish(Why.RETRIES_EXHAUSTED)
            delay_ms = exponential_ms(progress.function_errors + 1, rules.base_ms, float("inf"))
            retry = Retry(int(delay_ms), Cause.FUNCTION_ERROR)
        case Ending.THROTTLED | Ending.SYSTEM_ERROR:
            delay_ms = equal_jitter_ms(
                progress.throttles + 1, rules.throttle_base_ms, rules.throttle_cap_ms, unit_random
            )
            retry = Retry(int(delay_ms), Cause.THROTTLE)
        case Ending.NO_ROOM:
            delay_ms = equal_jitter_ms(1, rules.throttle_base_ms, rules.throttle_cap_ms, unit_random)
            retry = Retry(int(delay_ms), Cause.UNSTARTED)
    ends_ms = progress.accepted_at_ms + rules.max_age_ms
    if progress.latest_return_ms:
        ends_ms = min(ends_ms, progress.latest_return_ms)
    return TOO_OLD if now_ms + retry.delay_ms >= ends_ms else retry


def before_run(
    progress: Progress,
    rules: Rules,
    now_ms: int,
    *,
    is_expired: bool,
    is_closed: bool,
    chain_depth: int,
    allows_recursion: bool = False,
) -> Finish | None:
    """Why the event must not run, or None when it may.

    `is_expired`: the shard says that the age of the time of accept is over; a longer age configured since then counts.
    `is_closed`: the function's reserved concurrency is 0. `chain_depth`: invocations of the chain before this one;
    `allows_recursion`: the function is not to be stopped for them.
    """
    age_ms = now_ms - progress.accepted_at_ms
    was_promised_ms = progress.latest_return_ms - progress.accepted_at_ms if progress.latest_return_ms else 0
    if age_ms >= rules.max_age_ms or (is_expired and rules.max_age_ms <= was_promised_ms):
        return TOO_OLD
    if is_closed:
        return Finish(Why.ZERO_RESERVED_CONCURRENCY)
    if lineage.is_stopped(chain_depth, allows_recursion=allows_recursion):
        return Finish(Why.RECURSION_STOPPED)
    return None


def delivery_delay_ms(failures: int, rules: Rules, unit_random: float) -> int:
    """How long a record waits for its next delivery after so many that failed."""
    return int(equal_jitter_ms(failures, rules.throttle_base_ms, rules.throttle_cap_ms, unit_random))
