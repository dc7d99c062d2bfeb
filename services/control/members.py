"""The nodes of the fleet: who joined, who is silent, who left, whose incarnation is over for good."""

import logging
import re
from collections import deque
from collections.abc import Iterable

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control.changes import Change, Changes
from services.control.ledger import Ledger
from services.control.sessions import Session, Sessions
from services.control.state import State
from services.control.statements import MAX_DEAD_INCARNATIONS, bury, forget_dead
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason, invalid

# Silent for so many intervals and a half: that many heartbeats were missed for sure.
MISSED_HEARTBEATS = 3
MAX_MEMBERS = 4_096
MAX_ADDRESS_CHARACTERS = 512
MAX_SLOTS = 1_000_000
_NODE_ID = re.compile(r"[a-z0-9-]{1,64}")
_ROLES = {
    resources_pb2.NODE_ROLE_FRONTEND,
    resources_pb2.NODE_ROLE_QUEUE,
    resources_pb2.NODE_ROLE_POLLER,
    resources_pb2.NODE_ROLE_RUNTIME,
}
ALIVE = resources_pb2.MEMBER_STATE_ALIVE
UNREACHABLE = resources_pb2.MEMBER_STATE_UNREACHABLE
LEAVING = resources_pb2.MEMBER_STATE_LEAVING
GONE = resources_pb2.MEMBER_STATE_GONE
log = logging.getLogger(__name__)


class Members:
    """Membership, one committed change a step."""

    def __init__(
        self,
        state: State,
        changes: Changes,
        sessions: Sessions,
        ledger: Ledger,
        clock: Clock,
        dead: Iterable[tuple[str, str]],
        heartbeat_interval_ms: int,
    ) -> None:
        self._state = state
        self._changes = changes
        self._sessions = sessions
        self._ledger = ledger
        self._clock = clock
        self._interval_ms = heartbeat_interval_ms
        self._dead: dict[str, deque[str]] = {}
        for node_id, incarnation in dead:
            self._note_dead(node_id, incarnation)
        # Nodes without a stream are silent since then at the latest; control's own start counts for everybody.
        self._lost_ms: dict[str, float] = dict.fromkeys(state.members, clock.monotonic_ms())
        self._ticked_ms = clock.monotonic_ms()

    async def join(self, hello: control_pb2.JoinHello) -> Session:
        """Take a node in; what it is to know first waits in the session. EvenflowError: bad hello, or known as dead."""
        check_hello(hello)
        return await self._changes.run(lambda change: self._decide_join(change, hello))

    def _decide_join(self, change: Change, hello: control_pb2.JoinHello) -> Session:
        node_id, incarnation = hello.node_id, hello.incarnation
        if incarnation in self._dead.get(node_id, ()):
            raise EvenflowError(
                Reason.ERROR_REASON_RESOURCE_CONFLICT,
                f"this start of {node_id} counts as ended: another one took its place, or it left; start it anew",
            )
        before = self._state.members.get(node_id)
        if before is None:
            self._make_room(change)
        elif before.incarnation != incarnation:
            self._plan_end(change, node_id, before.incarnation)
            log.info("%s: incarnation %s ended, %s joined", node_id, before.incarnation, incarnation)
        member = resources_pb2.Member(
            node_id=node_id,
            role=hello.role,
            incarnation=incarnation,
            address=hello.address,
            state=ALIVE,
            joined_at_ms=self._clock.wall_ms(),
            slots=hello.slots,
        )
        if before is not None and before.incarnation == incarnation:
            member.joined_at_ms = before.joined_at_ms
        if before != member:
            change.upserts.append(_resource(member))
        session = Session(node_id, incarnation, self._clock.monotonic_ms())
        change.when_committed.append(lambda: self._welcome(session, list(hello.shares_held)))
        return session

    def _welcome(self, session: Session, shares_held: list[control_pb2.ShareHeld]) -> None:
        session.heard_ms = self._clock.monotonic_ms()
        self._sessions.put(session)
        self._lost_ms.pop(session.node_id, None)
        welcome = control_pb2.Welcome(fleet_id=self._state.fleet.fleet_id, heartbeat_interval_ms=self._interval_ms)
        session.send(control_pb2.JoinResponse(welcome=welcome))
        held = {share.limit_key: share.held for share in shares_held}
        failures = {share.limit_key: share.failure for share in shares_held if share.failure}
        self._ledger.resume(session.node_id, session.incarnation, held, self._state.limits(), failures)

    def heard(self, session: Session) -> None:
        """Anything came from the node."""
        session.heard_ms = self._clock.monotonic_ms()

    async def leave(self, session: Session) -> None:
        """The node drains."""
        session.is_leaving = True
        await self._changes.run(lambda change: self._plan_state(change, session.node_id, session.incarnation, LEAVING))

    async def ended(self, session: Session, is_clean: bool) -> None:
        """A stream ended; is_clean: the node itself closed it."""
        if not self._sessions.drop(session):
            return
        # Silence counts from the last word, not from the end of the stream.
        self._lost_ms[session.node_id] = session.heard_ms
        if is_clean and session.is_leaving:
            await self._changes.run(lambda change: self._plan_gone(change, session.node_id, session.incarnation))

    async def tick(self) -> None:
        """Look for nodes that fell silent and for silent ones that speak again."""
        now_ms = self._clock.monotonic_ms()
        late_ms = now_ms - self._ticked_ms - self._interval_ms
        self._ticked_ms = now_ms
        if late_ms > 0:
            # Control itself stood still: nobody could be heard meanwhile.
            for session in self._sessions.all():
                session.heard_ms = min(now_ms, session.heard_ms + late_ms)
        if any(self._state_due(member) != member.state for member in self._state.members.values()):
            await self._changes.run(self._plan_due)

    def _plan_due(self, change: Change) -> None:
        for node_id, member in list(self._state.members.items()):
            due = self._state_due(member)
            if due == GONE and member.state != GONE:
                self._plan_gone(change, node_id, member.incarnation)
            else:
                self._plan_state(change, node_id, member.incarnation, due)

    def _state_due(self, member: resources_pb2.Member) -> "resources_pb2.MemberState.ValueType":
        if member.state == GONE:
            return GONE
        now_ms = self._clock.monotonic_ms()
        session = self._sessions.of(member.node_id, member.incarnation)
        heard_ms = session.heard_ms if session is not None else self._lost_ms.get(member.node_id, now_ms)
        if now_ms - heard_ms <= (MISSED_HEARTBEATS + 0.5) * self._interval_ms:
            if session is None:
                return member.state
            return LEAVING if session.is_leaving else ALIVE
        if session is None and member.state == LEAVING and not self._ledger.bound_of(member.node_id):
            # It said that it goes, gave everything back and its stream is over.
            return GONE
        return UNREACHABLE

    def _plan_state(
        self, change: Change, node_id: str, incarnation: str, state: "resources_pb2.MemberState.ValueType"
    ) -> None:
        before = self._state.members.get(node_id)
        if before is None or before.incarnation != incarnation or before.state in (state, GONE):
            return
        member = resources_pb2.Member()
        member.CopyFrom(before)
        member.state = state
        change.upserts.append(_resource(member))
        log.info("%s is %s", node_id, resources_pb2.MemberState.Name(state).removeprefix("MEMBER_STATE_"))

    def _plan_gone(self, change: Change, node_id: str, incarnation: str) -> None:
        before = self._state.members.get(node_id)
        if before is None or before.incarnation != incarnation or self._sessions.get(node_id) is not None:
            return
        self._plan_state(change, node_id, incarnation, GONE)
        self._plan_end(change, node_id, incarnation)

    def _plan_end(self, change: Change, node_id: str, incarnation: str) -> None:
        if incarnation in self._dead.get(node_id, ()):
            return
        change.statements.extend(bury(node_id, incarnation))
        change.when_committed.append(lambda: self._note_dead(node_id, incarnation))
        change.when_committed.append(lambda: self._ledger.free(node_id))

    def _note_dead(self, node_id: str, incarnation: str) -> None:
        self._dead.setdefault(node_id, deque(maxlen=MAX_DEAD_INCARNATIONS)).append(incarnation)

    def _forget(self, node_id: str) -> None:
        self._dead.pop(node_id, None)
        self._lost_ms.pop(node_id, None)

    def _make_room(self, change: Change) -> None:
        if len(self._state.members) < MAX_MEMBERS:
            return
        gone = [member for member in self._state.members.values() if member.state == GONE]
        if not gone:
            raise EvenflowError(
                Reason.ERROR_REASON_NO_CAPACITY, f"the fleet has {MAX_MEMBERS:,} nodes, the most it takes"
            )
        oldest = min(gone, key=lambda member: member.joined_at_ms)
        change.deleted_keys.append(f"member/{oldest.node_id}")
        change.statements.append(forget_dead(oldest.node_id))
        change.when_committed.append(lambda: self._forget(oldest.node_id))


def check_hello(hello: control_pb2.JoinHello) -> None:
    """Pass when a node may join like this. EvenflowError INVALID_PARAMETER: a field is out of its bounds."""
    if not _NODE_ID.fullmatch(hello.node_id):
        raise invalid(f"node_id {hello.node_id[:80]!r} must be 1 to 64 characters of a-z 0-9 -")
    if hello.role not in _ROLES:
        raise invalid(f"{hello.node_id} says no role that nodes have")
    if not 1 <= len(hello.incarnation) <= 64:
        raise invalid(f"{hello.node_id}: incarnation must have 1 to 64 characters")
    if not 1 <= len(hello.address) <= MAX_ADDRESS_CHARACTERS:
        raise invalid(f"{hello.node_id}: address must have 1 to {MAX_ADDRESS_CHARACTERS} characters")
    if hello.slots > MAX_SLOTS:
        raise invalid(f"{hello.node_id}: slots must be at most {MAX_SLOTS:,}, not {hello.slots:,}")


def _resource(member: resources_pb2.Member) -> resources_pb2.Resource:
    return resources_pb2.Resource(key=f"member/{member.node_id}", member=member)
