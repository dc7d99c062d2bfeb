"""Seats whose /tmp outlives a crash: the function's next sandbox gets the same one, as AWS does it."""

from collections import OrderedDict

from services.runtime.functions import HostedFunction
from services.runtime.seats import Seat, Seats

# Over all functions: a function that crashed and is not invoked again must not use up the host's seats.
MAX_KEPT_SEATS = 256


class KeptSeats:
    """Hands out seats: those kept for the function first."""

    def __init__(self, seats: Seats) -> None:
        self._seats = seats
        # By seat, the one that was kept longest first.
        self._kept: OrderedDict[int, HostedFunction] = OrderedDict()

    def take(self, function: HostedFunction) -> Seat | None:
        """The seat of a sandbox of the function that crashed, else an empty one; None: all are taken."""
        if not function.kept_seats:
            return self._seats.take()
        seat = function.kept_seats.pop()
        del self._kept[seat.number]
        return seat

    def take_empty(self) -> Seat | None:
        """An empty one, whatever is kept; None: all are taken."""
        return self._seats.take()

    def keep(self, function: HostedFunction, seat: Seat) -> None:
        """For the function's next sandbox. Beyond MAX_KEPT_SEATS the oldest goes back."""
        function.kept_seats.append(seat)
        self._kept[seat.number] = function
        if len(self._kept) > MAX_KEPT_SEATS:
            number, oldest = self._kept.popitem(last=False)
            given_up = next(one for one in oldest.kept_seats if one.number == number)
            oldest.kept_seats.remove(given_up)
            self._seats.give_back(given_up)

    def drop(self, function: HostedFunction) -> None:
        """Nothing of the function crashed lately: give back what is kept for it."""
        while function.kept_seats:
            seat = function.kept_seats.pop()
            del self._kept[seat.number]
            self._seats.give_back(seat)

    def give_back(self, seat: Seat) -> None:
        """It is nobody's any more."""
        self._seats.give_back(seat)
