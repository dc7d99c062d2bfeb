"""The ledger against real hosts' bookkeeping, over any order of deliveries, cuts, crashes and limit changes.

What is counted is what hosts may really run, told targets that are still on their way included: it must stay within
each limit always, and within the account's. After a limit was lowered it may only fall until it fits.

Sandboxes that are kept ready are counted apart: targets never add up to more than is asked for; at rest as many are up
as were asked for, or as there is room for, and the shares of invocations are as if there were none.
"""

import atexit
import functools
import shutil
import tempfile
from collections import deque
from pathlib import Path

from evenflow.control.v1 import control_pb2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.control.changes import Change
from services.control.database import Database
from services.control.ledger import Ledger
from services.control.statements import bury
from services.policy.sharing import ACCOUNT, Host
from services.runtime.admission import Shares

ACCOUNT_LIMIT = 20
KEYS = ("function/t/a", "function/t/b")
READY_KEYS = ("provisioned/t/a/1", "provisioned/t/c/7")
NODES = ("runtime-0", "runtime-1", "runtime-2")
# More rounds than any backlog of a machine this small needs to come to rest.
ROUNDS_TO_REST = 12


@functools.cache
def _database() -> Database:
    folder = tempfile.mkdtemp(prefix="ef-", dir="/tmp")
    atexit.register(shutil.rmtree, folder)
    return Database(Path(folder) / "control.db")


class FakeHost:
    """A host as it is: the runtime's own shares, a link that keeps order, and what it says in a hello."""

    def __init__(self, node_id: str, incarnation: str, slots: int) -> None:
        self.node_id, self.incarnation, self.slots = node_id, incarnation, slots
        self.shares = Shares(self._report)
        self.runs: list[str] = []
        self.is_up = False
        self.is_leaving = False
        self.to_host: deque[control_pb2.ShareTarget] = deque()
        self.to_control: deque[tuple[str, int]] = deque()
        self.held: dict[str, int] = {}

    def _report(self, limit_key: str, held: int, _failure: str) -> None:
        if held:
            self.held[limit_key] = held
        else:
            self.held.pop(limit_key, None)
        if self.is_up:
            self.to_control.append((limit_key, held))

    def take_message(self) -> None:
        target = self.to_host.popleft()
        if target.removed:
            self.shares.remove(target.limit_key)
        else:
            self.shares.set_target(target.limit_key, target.target)

    def cut(self) -> None:
        self.is_up = False
        self.to_host.clear()
        self.to_control.clear()

    def come_up(self, limit_key: str, count: int) -> None:
        """Up to so many sandboxes become ready, or end where there are too many."""
        share = dict(self.shares.items()).get(limit_key)
        if share is not None:
            step = max(-count, min(count, share.target - share.held))
            self.shares.set_ready(limit_key, share.held + step, 0)

    def ready(self, limit_key: str) -> int:
        share = dict(self.shares.items()).get(limit_key)
        return 0 if share is None else share.held

    def may_run(self, limit_key: str) -> int:
        on_the_way = [t.target for t in self.to_host if t.limit_key == limit_key]
        here = dict(self.shares.items()).get(limit_key)
        now = max(here.target, here.in_use) if here is not None else 0
        return max([now, *on_the_way])


class LedgerMachine(RuleBasedStateMachine):
    """Control's ledger, its file, and three places for hosts."""

    def __init__(self) -> None:
        super().__init__()
        # One open file for all examples: what is committed counts here; its durability is another test's.
        self.database = _database()
        self.hosts: dict[str, FakeHost] = {}
        self.reserved: dict[str, int] = {}
        self.limits = {ACCOUNT: ACCOUNT_LIMIT}
        self.ceilings = dict.fromkeys((ACCOUNT, *KEYS), 0) | {ACCOUNT: ACCOUNT_LIMIT}
        self.ready_ceilings: dict[str, int] = {}
        self.starts = 0
        self.database._connection.executescript("PRAGMA synchronous = OFF; DELETE FROM shares")
        self.ledger = Ledger((), self._tell)

    def _tell(self, node_id: str, incarnation: str, target: control_pb2.ShareTarget) -> None:
        host = self.hosts.get(node_id)
        if host is not None and host.is_up and host.incarnation == incarnation:
            host.to_host.append(target)

    def teardown(self) -> None:
        """In the end everything comes to rest and is given out to the last."""
        self._come_to_rest()

    # --- steps

    @initialize(slots=st.lists(st.integers(1, 24), min_size=3, max_size=3))
    def found(self, slots: list[int]) -> None:
        """Three hosts that were just told their first targets."""
        for node_id, count in zip(NODES, slots, strict=True):
            self._start_host(node_id, count)
        self.plan()

    @rule(node_id=st.sampled_from(NODES), count=st.integers(1, 4))
    def deliver_to_host(self, node_id: str, count: int) -> None:
        """Targets arrive, in order."""
        host = self.hosts[node_id]
        for _ in range(min(count, len(host.to_host))):
            host.take_message()

    @rule(node_id=st.sampled_from(NODES), count=st.integers(1, 4))
    def deliver_to_control(self, node_id: str, count: int) -> None:
        """Reports arrive, in order."""
        host = self.hosts[node_id]
        for _ in range(min(count, len(host.to_control))):
            self._report(host)

    @rule(node_id=st.sampled_from(NODES), key=st.sampled_from((ACCOUNT, *KEYS)), count=st.integers(1, 20))
    def begin_runs(self, node_id: str, key: str, count: int) -> None:
        """As many runs as the share lets begin."""
        host = self.hosts[node_id]
        for _ in range(count):
            if host.shares.take(key):
                host.runs.append(key)

    @rule(node_id=st.sampled_from(NODES), count=st.integers(1, 20))
    def end_runs(self, node_id: str, count: int) -> None:
        """Runs end."""
        host = self.hosts[node_id]
        for _ in range(min(count, len(host.runs))):
            host.shares.give_back(host.runs.pop())

    @rule(key=st.sampled_from(KEYS), reserved=st.sampled_from([None, 0, 1, 3, 9]))
    def reserve(self, key: str, reserved: int | None) -> None:
        """A function's reserved concurrency is set or lifted; control plans at once."""
        self.reserved.pop(key, None)
        if reserved is not None:
            self.reserved[key] = reserved
        ready = {k: n for k, n in self.limits.items() if k in READY_KEYS}
        self.limits = {k: r for k, r in self.reserved.items() if r} | ready
        self.limits[ACCOUNT] = ACCOUNT_LIMIT - sum(self.reserved.values())
        self.plan()

    @rule(key=st.sampled_from(READY_KEYS), requested=st.sampled_from([0, 1, 4, 11]))
    def provision(self, key: str, requested: int) -> None:
        """Provisioned concurrency is asked for or lifted; control plans at once."""
        self.limits.pop(key, None)
        if requested:
            self.limits[key] = requested
        self.plan()

    @rule(node_id=st.sampled_from(NODES), key=st.sampled_from(READY_KEYS), count=st.integers(1, 6))
    def come_up(self, node_id: str, key: str, count: int) -> None:
        """Sandboxes become ready, or end."""
        self.hosts[node_id].come_up(key, count)

    @rule()
    def plan(self) -> None:
        """Control plans, stores, tells."""
        self._commit(self._planned())

    @rule(node_id=st.sampled_from(NODES))
    def cut(self, node_id: str) -> None:
        """A stream breaks: what was on its way is lost."""
        self.hosts[node_id].cut()

    @rule()
    def join_again(self) -> None:
        """Every host that lost its stream says hello; control plans."""
        for host in self.hosts.values():
            if not host.is_up:
                self._hello(host)
        self.plan()

    @rule(
        kind=st.sampled_from(["new incarnation", "leave", "restart", "crash before commit", "crash after commit"]),
        node_id=st.sampled_from(NODES),
        slots=st.integers(1, 24),
    )
    def mishap(self, kind: str, node_id: str, slots: int) -> None:
        """A host's process ends and starts anew, a host drains, control's process ends at any point."""
        match kind:
            case "new incarnation":
                self._start_host(node_id, slots)
                self.plan()
            case "leave":
                self.hosts[node_id].is_leaving = True
                self.plan()
            case "crash after commit":
                self.database.commit(1, (), (), self._planned().statements)
                self._restart_control()
            case _:
                self._planned()
                self._restart_control()

    # --- what must hold

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        """Per limit, and all together."""
        total = 0
        for key in self.ceilings:
            worst = sum(host.may_run(key) for host in self.hosts.values())
            total += worst
            limit = self.limits.get(key, 0)
            assert worst <= max(limit, self.ceilings[key]), f"{key}: {worst} may run, the limit is {limit}"
            # After a lower limit it only falls; once within, it stays within.
            self.ceilings[key] = max(limit, min(self.ceilings[key], worst))
        assert total <= ACCOUNT_LIMIT

    @invariant()
    def no_more_is_kept_ready_than_was_asked_for(self) -> None:
        """By the targets; what hosts out of touch were told before may still be on its way down."""
        for key in READY_KEYS:
            given = sum(row.share.target for (k, _), row in self.ledger.rows.items() if k == key)
            ceiling = self.ready_ceilings.get(key, 0)
            assert given <= max(self.limits.get(key, 0), ceiling), f"{key}: {given} given"
            self.ready_ceilings[key] = given
            for node_id, host in self.hosts.items():
                row = self.ledger.rows.get((key, node_id))
                if row is not None and host.is_up and not host.to_host and not host.to_control:
                    assert host.ready(key) <= row.share.bound

    @invariant()
    def the_file_is_never_behind(self) -> None:
        """A crash now would not forget anything that a host may run."""
        stored = {(s.limit_key, s.node_id): s.bound for s in self.database.load().shares}
        for host in self.hosts.values():
            for key in self.ceilings:
                assert host.may_run(key) <= stored.get((key, host.node_id), 0)

    # --- parts of steps

    def _start_host(self, node_id: str, slots: int) -> None:
        before = self.hosts.get(node_id)
        if before is not None:
            before.cut()
            self.database.commit(1, (), (), bury(node_id, before.incarnation))
            self.ledger.free(node_id)
        self.starts += 1
        self.hosts[node_id] = FakeHost(node_id, f"i{self.starts}", slots)
        self._hello(self.hosts[node_id])

    def _restart_control(self) -> None:
        """Every stream breaks; what is stored is all that is known."""
        for host in self.hosts.values():
            host.cut()
        self.ledger = Ledger(self.database.load().shares, self._tell)

    def _planned(self) -> Change:
        change = Change(1)
        hosts = {n: (h.incarnation, Host(h.slots, h.is_leaving)) for n, h in self.hosts.items() if h.is_up}
        self.ledger.plan(change, self.limits, ACCOUNT_LIMIT, hosts)
        return change

    def _commit(self, change: Change) -> None:
        self.database.commit(1, (), (), change.statements)
        for callback in change.when_committed:
            callback()

    def _hello(self, host: FakeHost) -> None:
        host.is_up = True
        self.ledger.resume(host.node_id, host.incarnation, dict(host.held), self.limits)

    def _report(self, host: FakeHost) -> None:
        self.ledger.report(host.node_id, host.incarnation, *host.to_control.popleft())

    def _come_to_rest(self) -> None:
        for host in self.hosts.values():
            host.is_leaving = False
            if not host.is_up:
                self._hello(host)
            while host.runs:
                host.shares.give_back(host.runs.pop())
        for _ in range(ROUNDS_TO_REST):
            self.plan()
            for host in self.hosts.values():
                while host.to_host:
                    host.take_message()
                for key in READY_KEYS:
                    host.come_up(key, 100)
                while host.to_control:
                    self._report(host)
            self.no_limit_is_exceeded()
        slots = sum(host.slots for host in self.hosts.values())
        for key in self.ceilings:
            given = sum(host.may_run(key) for host in self.hosts.values())
            assert given == min(self.limits.get(key, 0), slots), f"{key} did not come to rest"
        asked = sum(self.limits.get(key, 0) for key in READY_KEYS)
        ready = sum(host.ready(key) for key in READY_KEYS for host in self.hosts.values())
        assert ready == min(asked, slots), f"{ready} are ready of {asked}, there is room for {slots}"


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=120, stateful_step_count=40, deadline=None, database=None)
