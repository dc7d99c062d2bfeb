"""What a door may answer, as the users see it. Pure."""

from dataclasses import dataclass

from loadtest.workloads.work import is_asked


class NotTaken(Exception):
    """The door refused, broke off or did not answer in time: a failed request. The message is its row among the
    failures, so it holds no number that differs from request to request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request. request_ids: of the accepted events, 16 bytes each; size_bytes: of the answer."""

    request_ids: tuple[bytes, ...] = ()
    size_bytes: int = 0


def check_error_type(error_type: str) -> None:
    """NotTaken: the handler failed, and not because its event told it to."""
    if error_type and not is_asked(error_type):
        raise NotTaken(f"the handler failed: {error_type}")
