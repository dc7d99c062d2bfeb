"""Where an invocation stands in a chain of functions, as the X-Ray header of a handler's calls carries it. Pure.

The form is `Lineage=1:PARENT:DEPTH`: the first 8 hexadecimal digits of the request id of the invocation that calls, and
how many invocations of the chain came before it. Handlers' SDKs pass the header on unread.
"""

import re

MAX_CHAIN_DEPTH = 16
_LINEAGE = re.compile(rb"(?:^|;)\s*Lineage=\d{1,10}:([0-9a-f]{1,8}):(\d{1,5})(?:;|$)", re.IGNORECASE)


def trace_header(traceparent: str, caller_id: bytes, depth: int) -> str:
    """The header for calls of an invocation; `caller_id`: its request id. Empty: the invocation has no trace."""
    if len(traceparent) != 55:
        return ""
    return (
        f"Root=1-{traceparent[3:11]}-{traceparent[11:35]};Parent={traceparent[36:52]};"
        f"Sampled={1 if traceparent[54] == '1' else 0};Lineage=1:{caller_id[:4].hex() or '0'}:{depth}"
    )


def depth_after(header: bytes) -> int:
    """Invocations in the chain before one that is caused by a call with this header, at most 16; 0: it names none."""
    found = _LINEAGE.search(header)
    return min(int(found[2]) + 1, MAX_CHAIN_DEPTH) if found is not None else 0


def is_stopped(chain_depth: int, *, allows_recursion: bool) -> bool:
    """Whether an invocation must not run that stands there in its chain. `allows_recursion`: the function's rule."""
    return chain_depth >= MAX_CHAIN_DEPTH and not allows_recursion
