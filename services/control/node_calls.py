"""Calls of the fleet's nodes: who follows, who is there, which shard is where."""

import asyncio
from typing import Any

import grpc
from evenflow.control.v1 import control_pb2, resources_pb2

from services.control import shard_moves
from services.control.calls import Calls
from services.control.changes import Change
from services.control.sessions import Session
from services.shared.errors import EvenflowError, Reason, abort, invalid
from services.shared.gate import current_caller
from services.shared.streams import serve_stream

# A stream that opens and does not say who it is.
HELLO_SECONDS = 10.0
MAX_JOINING = 4_096


class NodeCalls(Calls):
    """See the contract for each."""

    # The stub's types know only handlers that yield; these two read and write their context.
    async def Watch(self, request: control_pb2.WatchRequest, context: Any) -> None:  # type: ignore[override]
        """See the contract."""
        try:
            follower = self._parts.feed.join(request.node_id)
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
            self._parts.feed.leave(follower)
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
            self._parts.steward.note_change()
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
            _check_caller(first.hello)
            session = await self._parts.members.join(first.hello)
        except EvenflowError as e:
            await abort(context, e)
        self._parts.steward.note_change()
        return session

    def _on_join_message(self, session: Session, message: control_pb2.JoinRequest) -> None:
        if not self._parts.sessions.is_current(session):
            return
        self._parts.members.heard(session)
        match message.WhichOneof("kind"):
            case "share_held":
                held = message.share_held
                self._parts.ledger.report(session.node_id, session.incarnation, held.limit_key, held.held, held.failure)
                self._parts.steward.note_change()
            case "source_progress":
                made, owner = message.source_progress, (session.node_id, session.incarnation)
                self._parts.steward.note_progress(owner, made)
            case "leaving":
                if not session.is_leaving:
                    self._later(self._leave(session))
            case "hello":
                raise invalid("hello comes once, as the first message")

    async def _leave(self, session: Session) -> None:
        await self._parts.members.leave(session)
        self._parts.steward.note_change()

    async def _end(self, session: Session, is_clean: bool) -> None:
        await self._parts.members.ended(session, is_clean)
        self._parts.steward.note_change()

    def _later(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name="membership")
        self._leaving.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: "asyncio.Task[None]") -> None:
        self._leaving.discard(task)
        # A refusal (the disk is full, control stops) is in the log already; ticks bring the state right later.
        if not task.cancelled():
            task.exception()

    async def ListMembers(
        self, request: control_pb2.ListMembersRequest, context: Any
    ) -> control_pb2.ListMembersResponse:
        """See the contract."""
        return control_pb2.ListMembersResponse(members=[m for _, m in sorted(self._parts.state.members.items())])

    async def MoveShard(self, request: control_pb2.MoveShardRequest, context: Any) -> control_pb2.MoveShardResponse:
        """See the contract."""
        return await self._change(context, "control.move_shard", "", self._decide_move, request)

    def _decide_move(self, change: Change, request: control_pb2.MoveShardRequest) -> control_pb2.MoveShardResponse:
        return shard_moves.decide_move(change, self._parts.state, request.shard_id, request.to_node_id)

    async def CompleteMove(
        self, request: control_pb2.CompleteMoveRequest, context: Any
    ) -> control_pb2.CompleteMoveResponse:
        """See the contract."""
        return await self._change(context, "control.complete_move", "", self._decide_complete, request)

    def _decide_complete(
        self, change: Change, request: control_pb2.CompleteMoveRequest
    ) -> control_pb2.CompleteMoveResponse:
        return shard_moves.decide_complete(change, self._parts.state, request)


def _check_caller(hello: control_pb2.JoinHello) -> None:
    """Pass when the caller's certificate, if calls have one, is for this node: others would be sent its events."""
    caller = current_caller()
    role = resources_pb2.NodeRole.Name(hello.role).removeprefix("NODE_ROLE_").lower()
    if caller is not None and not caller.is_node(role, hello.node_id):
        text = f"a certificate of {caller} cannot join as {hello.node_id[:80]} of role {role}"
        raise EvenflowError(Reason.ERROR_REASON_ACCESS_DENIED, text)
