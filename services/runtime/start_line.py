"""Who waits for a start that is not possible now. Pure."""

from collections import OrderedDict
from itertools import islice

from services.runtime.functions import HostedFunction


class StartLine:
    """Functions in order of arrival, each in one place: what comes free is for the first until it has it.

    So a function that needs much room is not passed by those that need little. After a start whoever wants more goes to
    the end.
    """

    def __init__(self) -> None:
        # The value: whether it had no sandbox at all when it last looked.
        self._line: OrderedDict[HostedFunction, bool] = OrderedDict()
        self._bare = 0

    def __len__(self) -> int:
        return len(self._line)

    def __contains__(self, function: HostedFunction) -> bool:
        return function in self._line

    @property
    def first(self) -> HostedFunction | None:
        """Whose turn it is; those that want nothing any more fall out."""
        while self._line:
            function = next(iter(self._line))
            if function.waiting or function.provisioned.missing:
                return function
            self.leave(function)
        return None

    def front(self, count: int) -> list[HostedFunction]:
        """Those whose turns come next, the first one first."""
        return list(islice(self._line, count))

    @property
    def has_bare(self) -> bool:
        """Whether a function without any sandbox waits."""
        return self._bare > 0

    def join(self, function: HostedFunction) -> None:
        """Wait at the end, or go on waiting where it is."""
        is_bare = not function.sandboxes
        self._bare += is_bare - self._line.get(function, False)
        self._line[function] = is_bare

    def leave(self, function: HostedFunction) -> None:
        """Want nothing any more, or wait for something else."""
        self._bare -= self._line.pop(function, False)

    def to_the_end(self, function: HostedFunction) -> None:
        """It had its turn."""
        if function in self._line:
            self._line.move_to_end(function)

    def may_start(self, function: HostedFunction) -> bool:
        """Whether nobody is before it."""
        return self.first in (None, function)
