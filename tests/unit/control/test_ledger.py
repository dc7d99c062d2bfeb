"""The ledger's races, one by one: what may be believed of a report and when a share may rise."""

from collections.abc import Mapping

from services.control.changes import Change
from services.control.ledger import Ledger
from services.policy.provisioned import Standing, provisioned_key
from services.policy.sharing import ACCOUNT, Host
from tests.unit.control.test_ledger_model import FakeHost

ACCOUNT_LIMIT = 15


class Bench:
    """A ledger and hosts whose messages are delivered by hand; nothing is stored."""

    def __init__(self, **slots: int) -> None:
        self.hosts = {name: FakeHost(name, "i1", count) for name, count in slots.items()}
        self.ledger = Ledger((), lambda node_id, _incarnation, target: self.hosts[node_id].to_host.append(target))
        for host in self.hosts.values():
            host.is_up = True

    def plan(self, limit: int, ready: Mapping[str, int] | None = None) -> None:
        change = Change(1)
        hosts = {name: (host.incarnation, Host(host.slots)) for name, host in self.hosts.items()}
        self.ledger.plan(change, {ACCOUNT: limit, **(ready or {})}, ACCOUNT_LIMIT, hosts)
        for callback in change.when_committed:
            callback()

    def to_host(self, name: str) -> None:
        while self.hosts[name].to_host:
            self.hosts[name].take_message()

    def to_control(self, name: str) -> None:
        while self.hosts[name].to_control:
            self.ledger.report(name, "i1", *self.hosts[name].to_control.popleft())

    def may_run(self) -> int:
        return sum(host.may_run(ACCOUNT) for host in self.hosts.values())


def test_a_report_from_before_a_raise_frees_nothing() -> None:
    """Lowered, raised and lowered again while its first answer is on the way: that answer is not the last one's."""
    bench = Bench(a=20)
    bench.plan(10)
    bench.to_host("a")
    bench.to_control("a")
    bench.plan(5)
    bench.to_host("a")
    for limit in (15, 5):
        bench.plan(limit)
    bench.to_control("a")
    bench.hosts["b"] = FakeHost("b", "i1", 10_000)
    bench.hosts["b"].is_up = True
    bench.plan(15)
    assert bench.may_run() <= 15


def test_a_share_on_its_way_down_does_not_rise_before_it_arrived() -> None:
    """Runs end one by one after a lower target: their reports must not free what a raise gave meanwhile."""
    bench = Bench(a=20)
    bench.plan(10)
    bench.to_host("a")
    bench.to_control("a")
    a = bench.hosts["a"]
    for _ in range(8):
        assert a.shares.take(ACCOUNT)
    bench.plan(2)
    bench.to_host("a")
    bench.to_control("a")
    for _ in range(3):
        a.shares.give_back(ACCOUNT)
    bench.plan(15)
    bench.plan(2)
    bench.to_control("a")
    bench.hosts["b"] = FakeHost("b", "i1", 10_000)
    bench.hosts["b"].is_up = True
    bench.plan(15)
    assert bench.may_run() <= 15


def test_a_share_moves_to_a_new_host_only_as_it_is_returned() -> None:
    """Half goes over, run by run."""
    bench = Bench(a=10)
    bench.plan(10)
    bench.to_host("a")
    bench.to_control("a")
    a = bench.hosts["a"]
    for _ in range(9):
        assert a.shares.take(ACCOUNT)
    b = bench.hosts["b"] = FakeHost("b", "i1", 10)
    b.is_up = True
    given = []
    for _ in range(5):
        bench.plan(10)
        bench.to_host("a")
        bench.to_host("b")
        bench.to_control("a")
        bench.to_control("b")
        bench.plan(10)
        given.append(b.may_run(ACCOUNT))
        assert bench.may_run() <= 10
        a.shares.give_back(ACCOUNT)
    assert given == [1, 2, 3, 4, 5]


def test_what_was_told_is_not_ready_before_the_host_says_so() -> None:
    """For invocations it must count as held at once; sandboxes that are still to come up are none."""
    key = provisioned_key("t", "f", "1")
    bench = Bench(a=10)
    bench.plan(10, {key: 4})
    assert bench.ledger.standing(key, ()) == Standing(target=4, ready=0)
    bench.to_host("a")
    bench.to_control("a")
    assert bench.ledger.standing(key, ()) == Standing(target=4, ready=0)
    bench.hosts["a"].come_up(key, 3)
    bench.to_control("a")
    assert bench.ledger.standing(key, ()) == Standing(target=4, ready=3)
    # Raised and not answered yet: what was ready still is.
    bench.plan(10, {key: 6})
    assert bench.ledger.standing(key, ()) == Standing(target=6, ready=3)
    assert bench.ledger.standing(key, {"a"}) == Standing()


def test_what_is_ready_takes_nothing_from_the_account() -> None:
    """Invocations count by the account's shares whether their sandbox was ready or not."""
    bench = Bench(a=10)
    bench.plan(10, {provisioned_key("t", "f", "1"): 7})
    bench.to_host("a")
    bench.to_control("a")
    assert bench.may_run() == 10
