"""What `evenflow load` says of its run: tables, a line of figures, and what went wrong with what to do about it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from cli.output import span_of_ms, table

if TYPE_CHECKING:
    from loadtest.open_loop.result import Latency, LoadResult

# As the doors name it: by AWS's name, and by the error table's.
_NO_FUNCTION = frozenset({"ResourceNotFoundException", "FUNCTION_NOT_FOUND", "404"})
_CONNECTION = "connection"
_QUANTILES = ("p50", "p90", "p99", "p99.9", "max")


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the options the words depend on. function: --function, host: --host, "" for none of them.

    callers: of a closed loop, 0 for an open one.
    """

    callers: int = 0
    synchronous: bool = False
    function: str = ""
    host: str = ""

    @property
    def starts_are_sampled(self) -> bool:
        """Only the fleet's own `load` on this machine leaves records of all events."""
        return bool(self.function or self.host)


def show(found: "LoadResult", asked: Asked, out: Console) -> None:
    """Counts, latencies, and a line of figures."""
    if asked.callers:
        out.print(f"closed loop, {asked.callers:,} callers: it hides stalls (docs/load.md)")
        out.print()
    counts = table("what", "events", right=("events",))
    for what, count in _counts(found, asked):
        counts.add_row(what, f"{count:,}")
    out.print(counts)
    out.print()
    since = "from the send to" if asked.callers else "from the intended send to"
    latencies = table(since, "events", *_QUANTILES, right=("events", *_QUANTILES))
    for what, one in _latencies(found, asked):
        values = (one.p50_ms, one.p90_ms, one.p99_ms, one.p999_ms, one.max_ms)
        latencies.add_row(what, f"{one.count:,}", *map(span_of_ms, values))
    if latencies.row_count:
        out.print(latencies)
    for what, missing, whole in (
        (_answer(asked), found.unanswered, found.accept),
        ("start", found.not_started, found.start),
        ("settled", found.not_settled, found.settled),
    ):
        if missing and whole is not None:
            out.print(f"{what}: {missing:,} of {whole.count:,} never came, and count until they were given up")
    if latencies.row_count:
        out.print()
    out.print("; ".join(_figures(found, asked)))


def failure(found: "LoadResult", asked: Asked) -> str:
    """One line: which events were lost to whom, and what to do; empty: none was."""
    refused = sum(found.refused.values())
    lost = (
        (refused, "refused"),
        (found.unanswered, "unanswered"),
        (found.dropped, "dropped"),
        (found.not_started, "not started"),
        (found.handler_failures, "failed unasked"),
    )
    told = ", ".join(f"{count:,} {what}" for count, what in lost if count)
    if not told:
        return ""
    advice = _advice(found, asked)
    return f"of {found.planned:,} events {told}" + (f": {advice}" if advice else "")


def _advice(found: "LoadResult", asked: Asked) -> str:
    if _NO_FUNCTION & found.refused.keys():
        if asked.function:
            return f"there is no function {asked.function!r}: `evenflow deploy` it, or leave --function out"
        return "there is no function `load` on that fleet: deploy one (docs/load.md), or name another with --function"
    if _CONNECTION in found.refused:
        if found.accepted:
            return "the door went away while this ran: see `evenflow doctor` and the logs in the fleet's data"
        return (
            "nobody listens at the door: start a fleet (`evenflow up`), or see to --host, --http-port and --grpc-port"
        )
    if found.dropped:
        return "as many requests as --in-flight allows had no answer: a lower --rate, or a larger fleet"
    if found.unanswered or found.not_started:
        return "the fleet stood still or has more than it can do: see `evenflow top`"
    return ""


def _answer(asked: Asked) -> str:
    return "answer" if asked.synchronous else "accept"


def _counts(found: "LoadResult", asked: Asked) -> Iterator[tuple[str, int]]:
    if not asked.callers:
        yield "planned", found.planned
    yield "sent", found.sent
    if not asked.callers:
        yield "late", found.late
    yield "dropped", found.dropped
    yield "answered" if asked.synchronous else "accepted", found.accepted
    for reason, count in found.refused.items():
        yield f"refused: {reason}", count
    yield "unanswered", found.unanswered
    if found.start is not None:
        yield "not started" + (", of the sample" if asked.starts_are_sampled else ""), found.not_started
    if found.settled is not None:
        yield "not settled, of the sample", found.not_settled
    yield "handler failures", found.handler_failures


def _latencies(found: "LoadResult", asked: Asked) -> Iterator[tuple[str, "Latency"]]:
    names = {
        "accept": _answer(asked),
        "start": "start (a sample)" if asked.starts_are_sampled else "start",
        "settled": "settled (a sample)",
    }
    for kind, one in (("accept", found.accept), ("start", found.start), ("settled", found.settled)):
        if one is not None:
            yield names[kind], one
        for whose, kinds in found.groups.items():
            if kind in kinds:
                yield f"{names[kind]}, {whose}", kinds[kind]


def _figures(found: "LoadResult", asked: Asked) -> Iterator[str]:
    if not asked.callers:
        yield f"planned {found.planned_per_second:,.1f}/s"
    yield f"{'answered' if asked.synchronous else 'accepted'} in time {found.accepted_per_second:,.1f}/s"
    if found.completed:
        yield f"handled in time {found.completed / found.seconds:,.1f}/s"
    drained = "not drained" if found.not_started or found.not_settled else "drained"
    if found.accepted and not asked.synchronous:
        # The handlers' records tell of first runs; the sample, of retries and destinations.
        yield f"{drained} {max(found.drained_seconds, found.settled_seconds):.2f} s after the schedule's end"
    yield f"generator {100 * found.generator_cpu:.0f} % of a core"
