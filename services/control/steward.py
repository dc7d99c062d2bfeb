"""Keeps the fleet in order: rounds over members, shares and sources, whenever something changed and every tick."""

import asyncio
import logging

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control.changes import Change, Changes
from services.control.ledger import Ledger
from services.control.members import ALIVE, GONE, LEAVING, UNREACHABLE, Members
from services.control.sessions import Sessions
from services.control.source_book import Plan, SourceBook
from services.control.state import State
from services.control.statements import delete_owner, delete_progress, put_owner, put_progress
from services.policy.sharing import Host
from services.shared.clock import Clock
from services.shared.errors import EvenflowError
from services.shared.streams import Wakeup

MAX_TICK_MS = 250
log = logging.getLogger(__name__)


class Steward:
    """Plans with the ledger and the source book; what they plan is stored before any node hears of it."""

    def __init__(
        self,
        state: State,
        changes: Changes,
        sessions: Sessions,
        members: Members,
        ledger: Ledger,
        book: SourceBook,
        clock: Clock,
        *,
        heartbeat_interval_ms: int,
        source_lease_ms: int,
    ) -> None:
        self._wakeup = Wakeup()
        self._shares_changed = True
        self._state = state
        self._changes = changes
        self._sessions = sessions
        self._members = members
        self._ledger = ledger
        self._book = book
        self._clock = clock
        self._lease_ms = source_lease_ms
        self._tick_seconds = min(MAX_TICK_MS, heartbeat_interval_ms / 4, source_lease_ms / 12) / 1_000
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin the rounds."""
        self._tasks = [
            asyncio.create_task(self._run(), name="steward"),
            asyncio.create_task(self._tick(), name="steward ticks"),
        ]

    def note_change(self) -> None:
        """Something changed that shares or sources depend on."""
        self._shares_changed = True
        self._wakeup.set()

    def note_progress(self, owner: tuple[str, str], made: control_pb2.SourceProgress) -> None:
        """A source came so far, its owner says; stored with the next round."""
        self._book.note_progress(owner, made.source_id, made.epoch, made.done_until_ms)

    async def stop(self) -> None:
        """No more rounds."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._tick_seconds)
            self._wakeup.set()

    async def _run(self) -> None:
        while True:
            await self._wakeup.wait()
            try:
                await self._members.tick()
                if self._shares_changed:
                    await self._changes.run(self.plan_shares)
                await self._changes.run(self.plan_sources)
            except EvenflowError as e:
                log.warning("a round could not be stored, the next one tries again: %s", e)
            except Exception:
                log.exception("a round failed")

    def plan_shares(self, change: Change) -> None:
        """Which host may hold how much of each limit."""
        # Reset now, set again by whatever happens until this is stored; a plan that is not stored must be made again.
        self._shares_changed = False
        change.when_failed.append(self.note_change_later)
        self._ledger.plan(
            change, self._state.limits(), self._state.fleet.account_concurrency, self._hosts(), self.lost_hosts()
        )

    def hosts_in_touch(self) -> dict[str, Host]:
        """Runtime hosts that can be told something now, by node id."""
        return {node_id: host for node_id, (_, host) in self._hosts().items()}

    def lost_hosts(self) -> set[str]:
        """Runtime hosts that were not heard for too long, by node id."""
        members = self._state.members.values()
        return {m.node_id for m in members if m.role == resources_pb2.NODE_ROLE_RUNTIME and m.state == UNREACHABLE}

    def _hosts(self) -> dict[str, tuple[str, Host]]:
        hosts: dict[str, tuple[str, Host]] = {}
        for member in self._state.members.values():
            if member.role == resources_pb2.NODE_ROLE_RUNTIME and member.state in (ALIVE, LEAVING):
                session = self._sessions.of(member.node_id, member.incarnation)
                if session is not None:
                    hosts[member.node_id] = member.incarnation, Host(member.slots, session.is_leaving)
        return hosts

    def note_change_later(self) -> None:
        """The plan was not stored: make it again at the next tick."""
        self._shares_changed = True

    def plan_sources(self, change: Change) -> None:
        """Which poller runs each event source."""
        pollers: dict[tuple[str, str], bool] = {}
        for member in self._state.members.values():
            if member.role == resources_pb2.NODE_ROLE_POLLER and member.state in (ALIVE, LEAVING):
                session = self._sessions.of(member.node_id, member.incarnation)
                if session is not None:
                    pollers[member.node_id, member.incarnation] = not session.is_leaving
        owners = {entry.owner for entry in self._book.entries.values()}
        ended = [owner for owner in owners if self._has_ended(*owner)]
        plan = self._book.plan(self._state.sources, pollers, ended, self._clock.monotonic_ms())
        progress = self._book.progress_to_store()
        change.statements.extend(put_progress(*one) for one in progress.items())
        change.when_failed.append(lambda: self._book.store_again(progress))
        for source_id in plan.dropped_ids:
            change.statements.extend((delete_owner(source_id), delete_progress(source_id)))
        change.statements.extend(put_owner(owner) for owner in plan.owners)
        change.when_committed.append(lambda: self._send_sources(plan))

    def _send_sources(self, plan: Plan) -> None:
        self._book.take(plan, self._clock.monotonic_ms())
        for grant in plan.revocations:
            session = self._sessions.of(*grant.owner)
            if session is not None:
                revoked = control_pb2.SourceRevoked(source_id=grant.source_id, epoch=grant.epoch)
                session.send(control_pb2.JoinResponse(source_revoked=revoked))
        for grant in plan.grants:
            session = self._sessions.of(*grant.owner)
            if session is not None:
                lease = control_pb2.SourceLease(
                    source_id=grant.source_id,
                    epoch=grant.epoch,
                    lease_ms=self._lease_ms,
                    done_until_ms=self._book.progress.get(grant.source_id, 0),
                )
                session.send(control_pb2.JoinResponse(source_lease=lease))

    def _has_ended(self, node_id: str, incarnation: str) -> bool:
        member = self._state.members.get(node_id)
        return member is None or member.incarnation != incarnation or member.state == GONE
