"""One time through what a handover goes to: a destination, a dead-letter queue, or both after one another. Pure."""

from collections.abc import Iterator

from evenflow.queue.v1 import queue_pb2

from services.shared.errors import EvenflowError, Reason

Part = queue_pb2.HandoverPart
Parts = "queue_pb2.HandoverPart.ValueType"
# What is too large stays so.
_NEVER = (Reason.ERROR_REASON_REQUEST_TOO_LARGE,)


def parts_of(handover: queue_pb2.Handover) -> "Iterator[queue_pb2.HandoverPart.ValueType]":
    """What has to be told, the dead-letter queue first: it takes the event itself."""
    if handover.dead_letter_arn:
        yield Part.HANDOVER_PART_DEAD_LETTER_QUEUE
    if handover.destination_arn:
        yield Part.HANDOVER_PART_DESTINATION


class DeliveryRound:
    """Who was told this time, and who refused."""

    __slots__ = ("handover", "is_shortened", "refusals")

    def __init__(self, handover: queue_pb2.Handover) -> None:
        self.handover = handover
        self.refusals: dict[queue_pb2.HandoverPart.ValueType, EvenflowError] = {}
        # The destination got its record without payloads: they were too large for it.
        self.is_shortened = False

    def next_part(self) -> "queue_pb2.HandoverPart.ValueType | None":
        """Who is to be told now; None: the round is over."""
        confirmed = self.handover.confirmed
        for part in parts_of(self.handover):
            if part not in confirmed and part not in self.refusals:
                return part
        return None

    def taken(self, part: "queue_pb2.HandoverPart.ValueType") -> bool:
        """This one has it; whether anybody else does not yet, so that it has to be stored."""
        self.handover.confirmed.append(part)
        return any(other not in self.handover.confirmed for other in parts_of(self.handover))

    def arn_of(self, part: "queue_pb2.HandoverPart.ValueType") -> str:
        """Where this part goes."""
        if part == Part.HANDOVER_PART_DESTINATION:
            return self.handover.destination_arn
        return self.handover.dead_letter_arn

    @property
    def is_refused(self) -> bool:
        """Whether somebody refused for good."""
        return any(not error.kind.retryable for error in self.refusals.values())

    def gives_up(self, max_tries: int, now_ms: int, keep_ms: float) -> EvenflowError | None:
        """The refusal for which it is not tried again; None: it is.

        What may pass by itself is tried until `keep_ms` after the event ended; what refuses for good `max_tries` times,
        in case somebody sets it right meanwhile.
        """
        refused = self.handover.delivery_refusals + self.is_refused
        ended_ms = self.handover.ended_at_ms
        is_over = bool(ended_ms) and now_ms - ended_ms >= keep_ms
        for error in self.refusals.values():
            if error.kind.retryable and not is_over:
                return None
        for error in self.refusals.values():
            if is_over or error.reason in _NEVER or refused >= max_tries:
                return error
        return None
