"""The gRPC face of control: translates, and nothing else."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
from evenflow.control.v1 import control_pb2, control_pb2_grpc

from services.control import shard_moves
from services.control.changes import Changes
from services.control.feed import Feed
from services.control.functions import SHA256_BYTES, Functions, packages_of
from services.control.ledger import Ledger
from services.control.members import Members
from services.control.packages import PackageStore
from services.control.sessions import Session, Sessions
from services.control.state import State
from services.control.steward import Steward
from services.control.tenants import decide_put_tenant
from services.shared.errors import EvenflowError, Reason, abort, invalid
from services.shared.streams import serve_stream
from services.shared.tracing import Tracer

# A stream that opens and does not say who it is.
HELLO_SECONDS = 10.0
MAX_JOINING = 4_096
T = TypeVar("T")


class ControlService(control_pb2_grpc.ControlServiceServicer):
    """See protos/evenflow/control/v1/control.proto."""

    def __init__(
        self,
        state: State,
        changes: Changes,
        feed: Feed,
        functions: Functions,
        packages: PackageStore,
        members: Members,
        sessions: Sessions,
        ledger: Ledger,
        steward: Steward,
        tracer: Tracer,
    ) -> None:
        self._state = state
        self._changes = changes
        self._feed = feed
        self._functions = functions
        self._packages = packages
        self._members = members
        self._sessions = sessions
        self._ledger = ledger
        self._steward = steward
        self._tracer = tracer
        self._joined = 0
        self._leaving: set[asyncio.Task[None]] = set()

    # The stub's types know only handlers that yield; these two read and write their context.
    async def Watch(self, request: control_pb2.WatchRequest, context: Any) -> None:  # type: ignore[override]
        """See the contract."""
        try:
            follower = self._feed.join(request.node_id)
        except EvenflowError as e:
            await abort(context, e)

        async def send() -> None:
            while True:
                message = follower.next_message()
                if message is None:
                    await follower.wakeup.wait()
                else:
                    await context.write(message)

        # As in serve_stream: a cut while the first part is under way must still end the call.
        await context.send_initial_metadata(())
        sender, cut = asyncio.create_task(send()), asyncio.create_task(follower.was_cut.wait())
        try:
            await asyncio.wait({sender, cut}, return_when=asyncio.FIRST_COMPLETED)
            if not cut.done():
                sender.result()
        finally:
            self._feed.leave(follower)
            sender.cancel()
            cut.cancel()
            await asyncio.gather(sender, cut, return_exceptions=True)
        text = "the follower is too far behind: follow again for a new snapshot"
        await abort(context, EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, text, retry_after_ms=100))

    async def Join(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        """See the contract."""
        session = await self._take_in(context)
        self._joined += 1
        is_clean = False
        try:
            await serve_stream(
                context,
                on_message=lambda message: self._on_join_message(session, message),
                produce=session.produce,
                wakeup=session.wakeup,
            )
            is_clean = True
        finally:
            self._joined -= 1
            self._steward.note_change()
            # Not awaited here: this call may be cancelled, the change must not be.
            self._later(self._end(session, is_clean))

    async def _take_in(self, context: Any) -> Session:
        try:
            if self._joined >= MAX_JOINING:
                raise EvenflowError(Reason.ERROR_REASON_NO_CAPACITY, f"control has {MAX_JOINING:,} nodes already")
            try:
                async with asyncio.timeout(HELLO_SECONDS):
                    first = await context.read()
            except TimeoutError:
                raise invalid(f"hello did not come within {HELLO_SECONDS:.0f} s") from None
            if first is grpc.aio.EOF or not first.HasField("hello"):
                raise invalid("the first message of a Join stream must be hello")
            session = await self._members.join(first.hello)
        except EvenflowError as e:
            await abort(context, e)
        self._steward.note_change()
        return session

    def _on_join_message(self, session: Session, message: control_pb2.JoinRequest) -> None:
        if not self._sessions.is_current(session):
            return
        self._members.heard(session)
        match message.WhichOneof("kind"):
            case "share_held":
                held = message.share_held
                self._ledger.report(session.node_id, session.incarnation, held.limit_key, held.held)
                self._steward.note_change()
            case "leaving":
                if not session.is_leaving:
                    self._later(self._leave(session))
            case "hello":
                raise invalid("hello comes once, as the first message")

    async def _leave(self, session: Session) -> None:
        await self._members.leave(session)
        self._steward.note_change()

    async def _end(self, session: Session, is_clean: bool) -> None:
        await self._members.ended(session, is_clean)
        self._steward.note_change()

    def _later(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name="membership")
        self._leaving.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: "asyncio.Task[None]") -> None:
        self._leaving.discard(task)
        # A refusal (the disk is full, control stops) is in the log already; ticks bring the state right later.
        if not task.cancelled():
            task.exception()

    async def PutFunction(
        self, request: control_pb2.PutFunctionRequest, context: Any
    ) -> control_pb2.PutFunctionResponse:
        """See the contract."""

        async def put() -> control_pb2.PutFunctionResponse:
            self._changes.require_room()
            return await self._changes.run(lambda change: self._functions.decide_put(change, request))

        return await self._answer(context, "control.put_function", request.function.function_name, put)

    async def GetFunction(
        self, request: control_pb2.GetFunctionRequest, context: Any
    ) -> control_pb2.GetFunctionResponse:
        """See the contract."""
        try:
            function = self._functions.get(request.tenant_id, request.function_name)
        except EvenflowError as e:
            await abort(context, e)
        sources = self._state.sources_of(request.tenant_id, request.function_name)
        return control_pb2.GetFunctionResponse(function=function, revision=self._state.revision, sources=sources)

    async def ListFunctions(
        self, request: control_pb2.ListFunctionsRequest, context: Any
    ) -> control_pb2.ListFunctionsResponse:
        """See the contract."""
        try:
            return self._functions.page(request)
        except EvenflowError as e:
            await abort(context, e)

    async def DeleteFunction(
        self, request: control_pb2.DeleteFunctionRequest, context: Any
    ) -> control_pb2.DeleteFunctionResponse:
        """See the contract."""

        async def delete() -> control_pb2.DeleteFunctionResponse:
            self._changes.require_room()
            await self._changes.run(
                lambda change: self._functions.decide_delete(change, request.tenant_id, request.function_name)
            )
            return control_pb2.DeleteFunctionResponse()

        return await self._answer(context, "control.delete_function", request.function_name, delete)

    async def PutConcurrency(
        self, request: control_pb2.PutConcurrencyRequest, context: Any
    ) -> control_pb2.PutConcurrencyResponse:
        """See the contract."""
        reserved = request.reserved_concurrency if request.HasField("reserved_concurrency") else None

        async def put() -> control_pb2.PutConcurrencyResponse:
            self._changes.require_room()
            function = await self._changes.run(
                lambda change: self._functions.decide_concurrency(
                    change, request.tenant_id, request.function_name, reserved
                )
            )
            return control_pb2.PutConcurrencyResponse(function=function)

        return await self._answer(context, "control.put_concurrency", request.function_name, put)

    async def PutTenant(self, request: control_pb2.PutTenantRequest, context: Any) -> control_pb2.PutTenantResponse:
        """See the contract."""

        async def put() -> control_pb2.PutTenantResponse:
            self._changes.require_room()
            return await self._changes.run(lambda change: decide_put_tenant(change, request.tenant, self._state))

        return await self._answer(context, "control.put_tenant", "", put)

    async def UploadPackage(
        self, request_iterator: AsyncIterator[control_pb2.UploadPackageRequest], context: Any
    ) -> control_pb2.UploadPackageResponse:
        """See the contract."""

        async def chunks() -> AsyncIterator[bytes]:
            async for request in request_iterator:
                yield request.chunk

        async def upload() -> control_pb2.UploadPackageResponse:
            code_sha256, data = await self._packages.receive(chunks())
            if not self._packages.has_room(len(data)):
                self._changes.require_room()
                # In a turn of its own, so that no function can begin to use what is removed.
                await self._changes.run(lambda _change: self._make_room())
            await self._packages.store(code_sha256, data)
            return control_pb2.UploadPackageResponse(code_sha256=code_sha256, size_bytes=len(data))

        return await self._answer(context, "control.upload_package", "", upload)

    def _make_room(self) -> None:
        used = {code for function in self._state.functions.values() for code in packages_of(function.latest)}
        self._packages.remove_unused(used, time.time())

    async def DownloadPackage(
        self, request: control_pb2.DownloadPackageRequest, context: Any
    ) -> AsyncIterator[control_pb2.DownloadPackageResponse]:
        """See the contract."""
        try:
            if len(request.code_sha256) != SHA256_BYTES:
                raise invalid(f"code_sha256 must have {SHA256_BYTES} bytes, not {len(request.code_sha256)}")
            async for part in self._packages.read(request.code_sha256):
                yield control_pb2.DownloadPackageResponse(chunk=part)
        except EvenflowError as e:
            await abort(context, e)

    async def ListMembers(
        self, request: control_pb2.ListMembersRequest, context: Any
    ) -> control_pb2.ListMembersResponse:
        """See the contract."""
        return control_pb2.ListMembersResponse(members=[m for _, m in sorted(self._state.members.items())])

    async def MoveShard(self, request: control_pb2.MoveShardRequest, context: Any) -> control_pb2.MoveShardResponse:
        """See the contract."""

        async def move() -> control_pb2.MoveShardResponse:
            self._changes.require_room()
            return await self._changes.run(
                lambda change: shard_moves.decide_move(change, self._state, request.shard_id, request.to_node_id)
            )

        return await self._answer(context, "control.move_shard", "", move)

    async def CompleteMove(
        self, request: control_pb2.CompleteMoveRequest, context: Any
    ) -> control_pb2.CompleteMoveResponse:
        """See the contract."""

        async def complete() -> control_pb2.CompleteMoveResponse:
            self._changes.require_room()
            return await self._changes.run(lambda change: shard_moves.decide_complete(change, self._state, request))

        return await self._answer(context, "control.complete_move", "", complete)

    async def _answer(self, context: Any, name: str, function_name: str, work: Callable[[], Awaitable[T]]) -> T:
        """The work's result under a span, or the call's end with its refusal."""
        given = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        root = self._tracer.new_root(given.get("traceparent", ""), given.get("tracestate", ""))
        attributes = {"evenflow.function": function_name} if function_name else None
        span = self._tracer.start(name, root, attributes=attributes)
        error: EvenflowError | None = None
        try:
            return await work()
        except EvenflowError as e:
            error = e
            await abort(context, e)
        finally:
            self._tracer.end(span, None if error is None else error.message)
