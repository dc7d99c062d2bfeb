"""What a driver needs of a door, and which doors there are."""

from typing import Protocol

from loadtest.open_loop.outcomes import Outcomes
from loadtest.open_loop.spec import LoadSpec


class Door(Protocol):
    """One driver's way to one door. Failures are told to the outcomes, never raised."""

    async def open(self) -> None:
        """Connect before anything is timed; a door that is not there now is tried again by the sends."""
        ...

    def request(self, tenant: int, payload: bytes) -> bytes:
        """The event as `send` takes it: made ahead, so that sending costs little."""
        ...

    def send(self, place: int, tenant: int, request: bytes) -> bool:
        """Send it; returns at once. False: as many as may be are under way."""
        ...

    def expire(self, now_ns: int) -> None:
        """Give up what was sent answer_seconds before this moment of the monotonic clock, or earlier."""
        ...

    async def close(self) -> None:
        """Leave; what is under way gets no answer."""
        ...


def make_door(spec: LoadSpec, in_flight: int, outcomes: Outcomes) -> Door:
    """The spec's door, with at most so many events under way."""
    # Each is imported where it is used: bare HTTP needs no gRPC in its process.
    if spec.door == "http":
        from loadtest.open_loop.doors.http_door import HttpDoor

        return HttpDoor(spec, in_flight, outcomes)
    if spec.door == "grpc":
        from loadtest.open_loop.doors.grpc_door import GrpcDoor

        return GrpcDoor(spec, in_flight, outcomes)
    from loadtest.open_loop.doors.stream_door import StreamDoor

    return StreamDoor(spec, in_flight, outcomes)
