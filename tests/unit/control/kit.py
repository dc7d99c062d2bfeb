"""Control's state without a file or a wire: what a change decides is applied at once."""

import hashlib
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

from evenflow.control.v1 import resources_pb2

from services.control.changes import Change
from services.control.editor import FunctionEditor
from services.control.state import State
from services.shared.clock import FakeClock

T = TypeVar("T")
TENANT = "default"
NAME: dict[str, Any] = {"tenant_id": TENANT, "function_name": "f"}


class Desk:
    """A state with one function `f`, and changes that are made of it."""

    def __init__(self, **latest: Any) -> None:
        version: dict[str, Any] = {
            "version": "$LATEST",
            "handler": "a.b",
            "runtime": "python3",
            "timeout_ms": 3_000,
            "memory_mb": 128,
        }
        function = resources_pb2.Function(
            **NAME,
            latest=resources_pb2.FunctionVersion(
                **version | {"code_sha256": b"c" * 32, "revision_id": "00000000-0000-4000-8000-000000000000"} | latest
            ),
        )
        fleet = resources_pb2.Fleet(
            fleet_id="f" * 32, account_id="123456789012", region="us-east-1", account_concurrency=1_000
        )
        self.state = State(
            1,
            [
                resources_pb2.Resource(key="fleet", fleet=fleet),
                resources_pb2.Resource(key=f"tenant/{TENANT}", tenant=resources_pb2.Tenant(tenant_id=TENANT)),
                resources_pb2.Resource(key=f"function/{TENANT}/f", function=function),
            ],
        )
        self.clock = FakeClock()
        numbers = itertools.count()
        # Different each time and the same in every run; nothing here is a secret.
        self.editor = FunctionEditor(
            self.state, self.clock, lambda count: hashlib.shake_128(str(next(numbers)).encode()).digest(count)
        )

    @property
    def function(self) -> resources_pb2.Function:
        """As it is now."""
        return self.state.functions[TENANT, "f"]

    def edit(self, edit: Callable[[resources_pb2.Function], None]) -> None:
        """Change the function by hand."""
        function = self.editor.copy(TENANT, "f")
        edit(function)
        self.run(lambda change, _request: self.editor.store(change, function), None)

    def run(self, decide: Callable[[Change, Any], T], request: Any) -> T:
        """Decide, and apply what was decided."""
        change = Change(self.state.revision + 1)
        result = decide(change, request)
        if change.is_visible:
            self.state.apply(change.revision, change.upserts, change.deleted_keys)
        return result
