"""The prepared parents of a host: two for each Python that is in use, made when the first function needs them."""

from collections.abc import Callable

from services.runtime.parents import PreparedParent
from services.runtime.runtimes import Interpreter


class Parents:
    """`make` gives a parent of an interpreter, with boto3 preloaded or bare."""

    def __init__(self, own: Interpreter, make: Callable[[Interpreter, bool], PreparedParent]) -> None:
        self._own = own
        self._make = make
        # As many as there are Pythons on this machine, twice.
        self._parents: dict[tuple[str, bool], PreparedParent] = {}

    @property
    def own(self) -> PreparedParent:
        """That of the host's Python, with what handlers need preloaded."""
        return self.of(self._own, is_bare=False)

    def of(self, interpreter: Interpreter, *, is_bare: bool) -> PreparedParent:
        """The parent for such sandboxes; it may have to be started."""
        key = interpreter.executable, is_bare
        parent = self._parents.get(key)
        if parent is None:
            parent = self._parents[key] = self._make(interpreter, is_bare)
        return parent

    def all(self) -> list[PreparedParent]:
        """Those that were asked for."""
        return list(self._parents.values())
