"""The prepared parents of a host, by Python and by what their sandboxes see; made when the first function needs one."""

from collections.abc import Callable

from services.runtime.parents import PreparedParent
from services.runtime.runtimes import Interpreter


class Parents:
    """`make` gives a parent of an interpreter, with boto3 preloaded or bare; its sandboxes read these folders, too."""

    def __init__(self, own: Interpreter, make: Callable[[Interpreter, bool, tuple[str, ...]], PreparedParent]) -> None:
        self._own = own
        self._make = make
        # As many as there are Pythons on this machine, twice, and one for each Node.js.
        self._parents: dict[tuple[str, bool, tuple[str, ...]], PreparedParent] = {}

    @property
    def own(self) -> PreparedParent:
        """That of the host's Python, with what handlers need preloaded."""
        return self.of(self._own, is_bare=False)

    def of(self, interpreter: Interpreter, *, is_bare: bool, reads: tuple[str, ...] = ()) -> PreparedParent:
        """The parent for such sandboxes; it may have to be started."""
        key = interpreter.executable, is_bare, reads
        parent = self._parents.get(key)
        if parent is None:
            parent = self._parents[key] = self._make(interpreter, is_bare, reads)
        return parent

    def all(self) -> list[PreparedParent]:
        """Those that were asked for."""
        return list(self._parents.values())
