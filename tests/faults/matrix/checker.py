"""Jepsen's total-queue checker, and what else has to hold: pure, over one cell's history."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from services.shared import ids
from tests.faults.matrix.history import Ended, History, Ran, Sent

ENDS = frozenset({"succeeded", "failed", "dead"})
# An event may outlive its age by a tick of whoever ends it.
AGE_TICK_MS = 2_000
MAX_TOLD = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """One cell: counts of events, and what broke the invariants, in words (at most MAX_TOLD of a kind).

    lost: acknowledged, and no single terminal record (I1). named_lost: such, and a repair named them: said, not silent.
    unexpected: ran and was never sent, or with other bytes, or after it was refused (I2). duplicated: succeeded more
    than once. recovered: ran though its acknowledgement never came. stale_accepted: settlements with a stale receipt
    that were taken (I3). broken: everything that must not be.
    """

    events: int
    acked: int
    lost: int
    named_lost: int
    unexpected: int
    duplicated: int
    recovered: int
    stale_accepted: int
    refused: int
    broken: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether every invariant held."""
        return not self.broken


def check(history: History) -> Verdict:
    """The verdict of one cell."""
    sent = {one.number: one for one in history.sent}
    acked = {one.acked: one for one in history.sent if one.acked}
    runs: dict[bytes, list[Ran]] = defaultdict(list)
    for run in history.ran:
        runs[run.request_id].append(run)
    ended: dict[bytes, list[Ended]] = defaultdict(list)
    for end in history.ended:
        ended[end.request_id].append(end)

    losses = {
        request_id: words
        for request_id, one in acked.items()
        if (words := _loss(history, one, ended[request_id], runs[request_id]))
    }
    lost = [words for request_id, words in losses.items() if request_id not in history.named_lost]
    unexpected = [words for run in history.ran if (words := _unexpected(run, sent))]
    repeated_ids = _ids_a_number(history)
    successes = Counter(run.request_id for run in history.ran if run.succeeded)
    repeated = [request_id for request_id, count in successes.items() if count > 1]
    # A lease that ran out is a cause that the shard has counted.
    unexplained = sum(not any(end.deliveries for end in ended[request_id]) for request_id in repeated)
    known = {run.number for run in history.ran}
    recovered = sum(not one.acked and one.number in known for one in history.sent)
    broken = [
        *_told("lost", lost),
        *_told("unexpected", unexpected),
        *_told("stored twice", repeated_ids),
        *_told(
            "too many function errors", [w for e in history.ended if (w := _errors(e, history.max_function_errors))]
        ),
        *_told("outlived its age", [w for e in history.ended if (w := _age(e))]),
    ]
    if unexplained and not history.may_repeat:
        broken.append(f"{unexplained} events succeeded more than once and nothing explains it")
    if history.stale_accepted:
        broken.append(
            f"{history.stale_accepted} of {history.stale_settles} settlements with a stale receipt were taken"
        )
    return Verdict(
        events=len(history.sent),
        acked=len(acked),
        lost=len(lost),
        named_lost=len(losses) - len(lost),
        unexpected=len(unexpected) + len(repeated_ids),
        duplicated=len(repeated),
        recovered=recovered,
        stale_accepted=history.stale_accepted,
        refused=sum(bool(one.refused) and not one.acked for one in history.sent),
        broken=tuple(broken),
    )


def _loss(history: History, one: Sent, ends: list[Ended], runs: list[Ran]) -> str:
    name = f"event {one.number} ({one.acked.hex()})"
    if not ends and ids.shard_of(one.acked) in history.damaged_shards and _has_ended(history, one, runs):
        return ""
    if len(ends) != 1:
        return f"{name} has {len(ends)} records: {[end.state for end in ends]}"
    end = ends[0]
    if end.state not in ENDS:
        return f"{name} is still {end.state}"
    if end.state == "succeeded" and not any(run.succeeded for run in runs):
        return f"{name} counts as succeeded and no handler succeeded"
    if end.state == "failed" and not history.destination.get(one.acked):
        return f"{name} counts as handed over and the destination was never told"
    return ""


def _has_ended(history: History, one: Sent, runs: list[Ran]) -> bool:
    """Whether the handlers or the destination saw the end of an event whose record went with its shard's file."""
    return (
        any(run.succeeded for run in runs)
        or len(runs) >= history.max_function_errors
        or bool(history.destination.get(one.acked))
    )


def _unexpected(run: Ran, sent: dict[int, Sent]) -> str:
    one = sent.get(run.number)
    if one is None:
        return f"number {run.number} ran and was never sent"
    if run.body_hash != one.body_hash:
        return f"event {run.number} ran with other bytes than were sent"
    if one.refused and not one.acked:
        return f"event {run.number} ran though the door refused it ({one.refused})"
    return ""


def _ids_a_number(history: History) -> list[str]:
    """A number whose runs carry more than one request id was stored more than once."""
    found: dict[int, set[bytes]] = defaultdict(set)
    for run in history.ran:
        found[run.number].add(run.request_id)
    return [
        f"event {one.number} was sent {one.sends} times and stored {len(found[one.number])} times"
        for one in history.sent
        if len(found[one.number]) > 1
    ]


def _errors(end: Ended, most: int) -> str:
    if end.function_errors <= most:
        return ""
    return f"{end.request_id.hex()} has {end.function_errors} function errors; {most} are the most"


def _age(end: Ended) -> str:
    if end.state not in ENDS or not end.finished_ms or end.finished_ms <= end.expires_ms + AGE_TICK_MS:
        return ""
    return f"{end.request_id.hex()} ended {end.finished_ms - end.expires_ms} ms after its age"


def _told(kind: str, words: list[str]) -> list[str]:
    more = [f"... and {len(words) - MAX_TOLD} more"] if len(words) > MAX_TOLD else []
    return [f"{kind}: {one}" for one in words[:MAX_TOLD] + more]
