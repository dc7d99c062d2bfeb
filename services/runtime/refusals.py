"""Why an invocation is not run here, each with what the caller may do about it."""

from collections.abc import Sequence

from services.runtime.functions import RUNTIMES, HostedFunction, VersionKey
from services.shared.errors import EvenflowError, Reason

RETRY_AFTER_MS = 1_000


def not_found(text: str) -> EvenflowError:
    """There is no such function or version."""
    return EvenflowError(Reason.ERROR_REASON_FUNCTION_NOT_FOUND, text)


def no_version(key: VersionKey) -> EvenflowError:
    """The function is there, and this version of it is not."""
    return not_found(f"{key[1]!r} has no version {key[2]!r}")


def draining() -> EvenflowError:
    """Another host can run it."""
    return EvenflowError(Reason.ERROR_REASON_DRAINING, "this host is draining: use another one")


def no_room() -> EvenflowError:
    """There was a share but no sandbox."""
    text = "no sandbox came free on this host in time: try again"
    return EvenflowError(Reason.ERROR_REASON_NO_CAPACITY, text, RETRY_AFTER_MS)


def too_large(function: HostedFunction, budget_mb: int, kept_mb: int) -> EvenflowError:
    """Its memory is more than all sandboxes of this host may have together, less what is kept ready."""
    kept = f", of which {kept_mb} MB are kept for provisioned concurrency" if kept_mb else ""
    text = (
        f"function {function.key[1]!r} needs {function.version.memory_mb} MB and this host gives {budget_mb} MB to "
        f"sandboxes in all{kept}: lower its memory_mb, or raise runtime.memory_mb (EVENFLOW_RUNTIME_MEMORY_MB) or "
        "runtime.max_sandboxes"
    )
    return EvenflowError(Reason.ERROR_REASON_NO_CAPACITY, text, RETRY_AFTER_MS)


def throttled(function: HostedFunction) -> EvenflowError:
    """The function's limit is used up."""
    if function.is_reserved:
        reason, text = Reason.ERROR_REASON_RESERVED_CONCURRENCY_EXCEEDED, "the function's reserved concurrency"
    else:
        reason, text = Reason.ERROR_REASON_CONCURRENCY_EXCEEDED, "this host's share of the account's concurrency"
    return EvenflowError(reason, f"Rate Exceeded. ({text} is in use)", RETRY_AFTER_MS)


def scaled_too_fast(function: HostedFunction, starts: int) -> EvenflowError:
    """It has a share, and started as many sandboxes of late as a function may."""
    text = f"{function.key[1]!r} started its part of {starts:,} sandboxes in 10 seconds: it scales no faster"
    return EvenflowError(Reason.ERROR_REASON_CONCURRENCY_EXCEEDED, f"Rate Exceeded. ({text})", RETRY_AFTER_MS)


def unsupported(runtime: str, offered: Sequence[str] = RUNTIMES, why: str = "") -> EvenflowError:
    """This host cannot run such code."""
    because = f" ({why})" if why else ""
    text = f"runtime {runtime!r} is not offered by this host{because}: {', '.join(offered)} are"
    return EvenflowError(Reason.ERROR_REASON_RUNTIME_UNSUPPORTED, text)
