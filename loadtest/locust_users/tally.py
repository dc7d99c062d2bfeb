"""What each driver counts, and what the drivers' counts say of a run. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtest.open_loop.validity import void_reasons


@dataclass(slots=True)
class Tally:
    """One driver's run so far. planned: sends whose time has come; sent: those that left; late, dropped: see validity.

    answered: with whatever; failed: of those, refused, broken or without answer in time. followed: events whose end was
    asked for; settled: of those, seen to end; unfollowed: chosen, but as many as may be were followed already.
    cpu: CPU time over the time of the sends, 0 to 1 of one core. is_final: nothing of this driver is to come.
    """

    planned: int = 0
    sent: int = 0
    late: int = 0
    dropped: int = 0
    answered: int = 0
    failed: int = 0
    followed: int = 0
    settled: int = 0
    unfollowed: int = 0
    cpu: float = 0.0
    is_final: bool = False


def as_plain(tally: Tally) -> dict[str, Any]:
    """For Locust's messages; `from_plain` takes it back."""
    return asdict(tally)


def from_plain(told: Mapping[str, Any]) -> Tally:
    """What as_plain gave. TypeError: it is something else."""
    return Tally(**told)


def total(tallies: Sequence[Tally]) -> Tally:
    """All drivers together; cpu is the busiest one's."""
    found = Tally(is_final=all(one.is_final for one in tallies))
    for one in tallies:
        for name in ("planned", "sent", "late", "dropped", "answered", "failed", "followed", "settled", "unfollowed"):
            setattr(found, name, getattr(found, name) + getattr(one, name))
        found.cpu = max(found.cpu, one.cpu)
    return found


def open_loop_void(drivers: Sequence[str], tallies: Mapping[str, Tally]) -> tuple[str, ...]:
    """Why an open-loop run of these drivers counts for nothing; empty: it counts."""
    found = total([tallies[driver] for driver in drivers if driver in tallies])
    reasons = void_reasons(found.planned, found.late, found.cpu)
    silent = [driver for driver in drivers if driver not in tallies or not tallies[driver].is_final]
    if silent:
        reasons += (f"{len(silent)} of {len(drivers)} drivers never told how their part ended",)
    return reasons


def lines(drivers: Sequence[str], tallies: Mapping[str, Tally], is_open: bool) -> list[str]:
    """The run in words: each driver's counts, then what the dwell rows rest on."""
    told = []
    for part, driver in enumerate(drivers):
        one = tallies.get(driver)
        if one is None:
            told.append(f"driver {part}: silent")
        elif is_open:
            told.append(
                f"driver {part}: {one.planned:,} planned, {one.sent:,} sent, {one.late:,} late, "
                f"{one.dropped:,} dropped, {one.failed:,} failed, CPU {100 * one.cpu:.0f} %"
            )
        else:
            told.append(f"driver {part}: {one.sent:,} sent, {one.failed:,} failed, CPU {100 * one.cpu:.0f} %")
    found = total(list(tallies.values()))
    if found.followed or found.unfollowed:
        words = f"dwell: {found.settled:,} of {found.followed:,} followed events settled"
        if found.settled < found.followed:
            words += "; the others were still under way, so that the rows look better than it was"
        if found.unfollowed:
            words += f"; {found.unfollowed:,} more were not followed, too many were at once"
        told.append(words)
    return told


def hint(found: Tally, failures: Sequence[str], function: str, doors: str) -> str:
    """One line for a run of which nothing was taken: what most likely is missing; empty: something was, or nothing was
    sent. failures: messages of NotTaken, as Locust keeps them; doors: their addresses."""
    if not found.answered or found.failed < found.answered:
        return ""
    # By the HTTP door's status, or by the gRPC door's reason.
    if failures and all("404" in one or "FUNCTION_NOT_FOUND" in one for one in failures):
        return f"nothing was accepted: there is no function {function!r}: `evenflow deploy` it, or see to --function"
    if failures and all("connection" in one or "UNAVAILABLE" in one for one in failures):
        return f"nothing was accepted: is there a fleet at {doors}? `evenflow up`, or see to --host and --grpc"
    return f"nothing was accepted by {doors}: see the failures above"
