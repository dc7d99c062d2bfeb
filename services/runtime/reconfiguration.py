"""What follows from a change of the fleet's configuration: new revisions, functions and versions that were deleted."""

from collections.abc import Callable

from evenflow.control.v1 import resources_pb2

from services.runtime import refusals
from services.runtime.book import FunctionBook
from services.runtime.functions import HostedFunction
from services.runtime.placing import Placing
from services.runtime.provisioning import Provisioning
from services.runtime.room import Room
from services.shared.errors import EvenflowError
from services.shared.function_view import version_of

_DELETED = b"deleted"


class Reconfiguration:
    """Keeps what is hosted in step with the view.

    on_unavailable: nothing of a version can be started any more; all who wait for it are told.
    """

    def __init__(
        self,
        book: FunctionBook,
        room: Room,
        placing: Placing,
        provisioning: Provisioning,
        on_unavailable: Callable[[HostedFunction, EvenflowError], None],
    ) -> None:
        self._book = book
        self._room = room
        self._placing = placing
        self._provisioning = provisioning
        self._on_unavailable = on_unavailable

    def follow(self) -> None:
        """The view changed: a new revision retires what is idle of the old one, what is busy ends after its run.

        A published version never changes: what is ready of it stays, whatever becomes of $LATEST.
        """
        view = self._book.view
        self._placing.set_hosts(len(view.members_of(resources_pb2.NODE_ROLE_RUNTIME)))
        for function in self._book.all():
            found = view.functions.get(function.key)
            if found is None:
                self._remove(function, f"function {function.key[1]!r} was deleted")
            elif found is not function.function and found.revision >= function.function.revision:
                self._take(function, found)
        self._provisioning.follow()

    def replaced(self, function: HostedFunction) -> None:
        """Its code or configuration is another: what it has is stale."""
        self._room.retire_idle(function, "replaced")
        self._provisioning.replaced(function)

    def _take(self, function: HostedFunction, found: resources_pb2.Function) -> None:
        version = version_of(found, function.number)
        if version is None:
            self._remove(function, f"version {function.number} of function {function.key[1]!r} was deleted")
            return
        old_key = function.limit_key
        if function.take(found, version):
            self.replaced(function)
        self._placing.limit_changed(function, old_key)

    def _remove(self, function: HostedFunction, text: str) -> None:
        if not function.is_deleted:
            self.replaced(function)
            self._on_unavailable(function, refusals.not_found(text))
            # Sandboxes that are busy end after their run: their code is no longer the function's.
            function.code_key = _DELETED
            function.is_deleted = True
            function.provisioned.target = 0
        self._book.forget(function)
