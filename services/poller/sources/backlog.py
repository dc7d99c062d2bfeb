"""Which paths of a bucket are to be looked at: each once at a time, some not before a time. No clock, no I/O."""

import heapq
from collections import deque
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Wish:
    """One path to look at. `is_whole`: it was closed or moved in before our eyes.

    `seen`: the file's identity at the last look, while it is not known whether somebody writes. `turn`: names its place
    among those that wait for a time; 0: it has none.
    """

    path: str
    is_whole: bool
    failures: int = 0
    seen: str = ""
    is_active: bool = False
    again: bool = False
    again_whole: bool = False
    turn: int = 0


class Backlog:
    """Wishes in order of arrival, bounded; those taken are active until they end or are put off."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._wishes: dict[str, Wish] = {}
        self._ready: deque[Wish] = deque()
        self._later: list[tuple[float, int, Wish]] = []
        self._turn = 0
        self.active = 0

    def __len__(self) -> int:
        return len(self._wishes)

    @property
    def is_full(self) -> bool:
        """Whether nothing more is taken now."""
        return len(self._wishes) >= self._bound

    def add(self, path: str, *, is_whole: bool) -> bool:
        """Wish for a look at the path. False: there is no room, and a scan has to find it again."""
        wish = self._wishes.get(path)
        if wish is None:
            if self.is_full:
                return False
            wish = self._wishes[path] = Wish(path, is_whole)
            self._ready.append(wish)
        elif wish.is_active:
            # What the look under way saw may be over already.
            wish.again, wish.again_whole = True, wish.again_whole or is_whole
        elif is_whole and not wish.is_whole:
            wish.is_whole = True
            if wish.turn and not wish.failures:
                # It waited to settle, and now it was closed: no need to wait.
                wish.turn = 0
                self._ready.append(wish)
        return True

    def take(self, now_ms: float) -> Wish | None:
        """The next path to look at now; active from here on."""
        while self._later and self._later[0][0] <= now_ms:
            _, turn, due = heapq.heappop(self._later)
            if due.turn == turn:
                due.turn = 0
                self._ready.append(due)
        if not self._ready:
            return None
        wish = self._ready.popleft()
        wish.is_active = True
        self.active += 1
        return wish

    def end(self, wish: Wish) -> None:
        """Done with it, unless somebody wished for it again meanwhile."""
        self.active -= 1
        wish.is_active = False
        if wish.again:
            fresh = self._wishes[wish.path] = Wish(wish.path, wish.again_whole)
            self._ready.append(fresh)
        else:
            del self._wishes[wish.path]

    def put_off(self, wish: Wish, due_ms: float) -> None:
        """Look again at that time; at once when it waits to settle and was closed meanwhile."""
        self.active -= 1
        wish.is_active = False
        is_closed_now = wish.again_whole and not wish.failures
        wish.is_whole, wish.again, wish.again_whole = wish.is_whole or wish.again_whole, False, False
        if is_closed_now:
            self._ready.append(wish)
            return
        self._turn += 1
        wish.turn = self._turn
        heapq.heappush(self._later, (due_ms, self._turn, wish))

    def clear(self) -> None:
        """Forget all but what is active."""
        self._ready.clear()
        self._later.clear()
        self._wishes = {w.path: w for w in self._wishes.values() if w.is_active}
        for wish in self._wishes.values():
            wish.again = False
