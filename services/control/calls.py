"""How a call is answered: with the work's result under a span, or with a typed refusal."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from evenflow.control.v1 import control_pb2_grpc

from services.control.account import Account
from services.control.aliases import Aliases
from services.control.async_configs import AsyncConfigs
from services.control.belongings import Belongings
from services.control.changes import Change, Changes
from services.control.concurrency import Concurrency
from services.control.editor import FunctionEditor
from services.control.feed import Feed
from services.control.functions import Functions
from services.control.layers import Layers
from services.control.ledger import Ledger
from services.control.members import Members
from services.control.packages import PackageStore
from services.control.permissions import Permissions
from services.control.sessions import Sessions
from services.control.sources import Sources
from services.control.state import State
from services.control.steward import Steward
from services.control.tenants import Tenants
from services.control.versions import Versions
from services.shared.errors import EvenflowError, abort
from services.shared.tracing import Tracer

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the calls are answered with."""

    state: State
    changes: Changes
    feed: Feed
    packages: PackageStore
    members: Members
    sessions: Sessions
    ledger: Ledger
    steward: Steward
    tracer: Tracer
    editor: FunctionEditor
    functions: Functions
    versions: Versions
    aliases: Aliases
    async_configs: AsyncConfigs
    permissions: Permissions
    belongings: Belongings
    layers: Layers
    sources: Sources
    concurrency: Concurrency
    tenants: Tenants
    account: Account


class Calls(control_pb2_grpc.ControlServiceServicer):
    """A part of protos/evenflow/control/v1/control.proto; the parts together are service.ControlService."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._joined = 0
        self._leaving: set[asyncio.Task[None]] = set()

    async def _change(
        self, context: Any, name: str, function_name: str, decide: Callable[[Change, R], T], request: R
    ) -> T:
        """The answer of a change, once it is committed; `name`: of the span."""

        async def run() -> T:
            self._parts.changes.require_room()
            return await self._parts.changes.run(lambda change: decide(change, request))

        return await self._answer(context, name, function_name, run)

    async def _read(self, context: Any, read: Callable[[R], T], request: R) -> T:
        """The answer of a look at the state."""
        try:
            return read(request)
        except EvenflowError as e:
            await abort(context, e)

    async def _answer(self, context: Any, name: str, function_name: str, work: Callable[[], Awaitable[T]]) -> T:
        """The work's result under a span, or the call's end with its refusal."""
        tracer = self._parts.tracer
        given = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        root = tracer.new_root(given.get("traceparent", ""), given.get("tracestate", ""))
        attributes = {"evenflow.function": function_name} if function_name else None
        span = tracer.start(name, root, attributes=attributes)
        error: EvenflowError | None = None
        try:
            return await work()
        except EvenflowError as e:
            error = e
            await abort(context, e)
        finally:
            tracer.end(span, None if error is None else error.message)
