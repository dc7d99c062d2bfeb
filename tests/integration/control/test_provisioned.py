"""Provisioned concurrency over a real control: given to hosts, how far it is, what is refused, after losses."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from evenflow.control.v1 import control_pb2

from services.policy.provisioned import PREFIX
from services.shared.errors import EvenflowError, Reason
from tests.integration.control.kit import TENANT, Client, Node, client, function_of, package, running
from tests.kit.waiting import eventually

R = Reason
# The stubs know no message from a dict.
pb: Any = control_pb2
NAME: dict[str, Any] = {"tenant_id": TENANT, "function_name": "f"}
KEY = f"{PREFIX}{TENANT}/f/1"


class ReadyHost(Node):
    """A host whose sandboxes come up when the test lets them."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.ready: dict[str, int] = {}

    def report(self, limit_key: str, failure: str = "") -> None:
        """What is ready, of provisioned limits."""
        if limit_key.startswith(PREFIX):
            self.membership.report_share(limit_key, self.ready.get(limit_key, 0), failure)
        else:
            super().report(limit_key)

    def come_up(self, limit_key: str = KEY) -> None:
        """All that are to be ready are."""
        self.ready[limit_key] = self.targets.get(limit_key, 0)
        self.report(limit_key)


@contextlib.asynccontextmanager
async def hosts(run_dir: Path, *names: str, slots: int = 8) -> AsyncIterator[list[ReadyHost]]:
    """Runtime hosts that joined."""
    found = [ReadyHost(run_dir, name, slots=slots) for name in names]
    try:
        for host in found:
            await host.start()
        yield found
    finally:
        for host in found:
            await host.stop()


async def publish(c: Client, count: int = 2, **more: Any) -> None:
    """A function with so many versions."""
    code = await c.upload(package())
    function = function_of("f", code, **more)
    await c.call("CreateFunction", pb.CreateFunctionRequest(function=function, publishes=True))
    for n in range(1, count):
        request = pb.UpdateFunctionRequest(
            **NAME, latest={"timeout_ms": 1_000 + n}, update_mask={"paths": ["timeout_ms"]}, publishes=True
        )
        await c.call("UpdateFunction", request)


async def provision(c: Client, qualifier: str, requested: int | None) -> Any:
    """The status that the answer has."""
    return (
        await c.call("PutProvisioned", pb.PutProvisionedRequest(**NAME, qualifier=qualifier, requested=requested))
    ).status


async def statuses(c: Client, qualifier: str = "") -> dict[str, tuple[int, int, int, str]]:
    """(requested, allocated, available, status) by qualifier."""
    answer = await c.call("ReadProvisioned", pb.ReadProvisionedRequest(**NAME, qualifier=qualifier))
    return {s.qualifier: (s.requested, s.allocated, s.available, s.status) for s in answer.statuses}


async def alias(c: Client, name: str, version: str, **more: Any) -> None:
    """Create or change."""
    await c.call("PutAlias", pb.PutAliasRequest(**NAME, alias={"name": name, "function_version": version, **more}))


async def test_what_is_asked_for_comes_up_on_the_hosts_and_the_status_follows(run_dir: Path) -> None:
    """IN_PROGRESS until all are ready, READY then; the account's shares of invocations are as they were."""
    async with running(run_dir) as control, client(run_dir) as c, hosts(run_dir, "r0", "r1") as (a, b):
        await publish(c)
        await eventually(lambda: a.targets.get("account") == b.targets.get("account") == 8)
        first = await provision(c, "1", 5)
        assert (first.requested, first.allocated, first.available, first.status) == (5, 0, 0, "IN_PROGRESS")
        await eventually(lambda: a.targets.get(KEY, 0) + b.targets.get(KEY, 0) == 5)
        assert abs(a.targets[KEY] - b.targets[KEY]) == 1
        assert await statuses(c) == {"1": (5, 5, 0, "IN_PROGRESS")}
        a.come_up()
        await eventually(lambda: control.ledger.standing(KEY, ()).ready == a.targets[KEY])
        b.come_up()
        await eventually(lambda: control.ledger.standing(KEY, ()).ready == 5)
        assert await statuses(c) == {"1": (5, 5, 5, "READY")}
        assert a.targets["account"] == b.targets["account"] == 8

        await provision(c, "1", 7)
        await eventually(lambda: a.targets[KEY] + b.targets[KEY] == 7)
        assert (await statuses(c))["1"] == (7, 7, 5, "IN_PROGRESS")
        await provision(c, "1", None)
        await eventually(lambda: KEY in a.removed and KEY in b.removed)
        assert a.targets[KEY] == b.targets[KEY] == 0 and await statuses(c) == {}
        with pytest.raises(EvenflowError, match="No Provisioned Concurrency Config found") as refused:
            await statuses(c, "1")
        assert refused.value.reason == R.ERROR_REASON_PROVISIONED_NOT_FOUND


async def test_a_host_that_cannot_says_why_and_recovers(run_dir: Path) -> None:
    """FAILED with its words while it has them; too much for all hosts together is FAILED, too."""
    async with running(run_dir) as control, client(run_dir) as c, hosts(run_dir, "r0") as (a,):
        await publish(c)
        await provision(c, "1", 2)
        await eventually(lambda: a.targets.get(KEY) == 2)
        a.report(KEY, "FUNCTION_ERROR_INIT_FAILURE")
        await eventually(lambda: control.ledger.standing(KEY, ()).failure != "")
        answer = await c.call("ReadProvisioned", pb.ReadProvisionedRequest(**NAME, qualifier="1"))
        assert answer.statuses[0].status == "FAILED"
        assert answer.statuses[0].status_reason == "FUNCTION_ERROR_INIT_FAILURE"
        a.come_up()
        await eventually(lambda: control.ledger.standing(KEY, ()).ready == 2)
        assert (await statuses(c, "1"))["1"][3] == "READY"
        assert (await provision(c, "1", 9)).status == "FAILED"


async def test_an_alias_takes_what_is_kept_ready_along(run_dir: Path) -> None:
    """Two aliases of one version add up; a new version of an alias is provisioned instead of the old one."""
    async with running(run_dir) as control, client(run_dir) as c, hosts(run_dir, "r0") as (a,):
        await publish(c)
        await alias(c, "live", "1")
        await alias(c, "beta", "1")
        await provision(c, "live", 2)
        await provision(c, "beta", 1)
        await eventually(lambda: a.targets.get(KEY) == 3)
        a.come_up()
        await eventually(lambda: control.ledger.standing(KEY, ()).ready == 3)
        assert await statuses(c) == {"beta": (1, 1, 1, "READY"), "live": (2, 2, 2, "READY")}
        second = KEY[:-1] + "2"
        await alias(c, "live", "2")
        await eventually(lambda: a.targets.get(second) == 2 and a.targets[KEY] == 1)
        await c.call("DeleteAlias", pb.DeleteAliasRequest(**NAME, name="live"))
        await eventually(lambda: second in a.removed)
        assert set(await statuses(c)) == {"beta"}


async def test_shares_survive_control_and_go_to_others_when_a_host_is_lost(run_dir: Path) -> None:
    """A restart of control moves nothing; a silent host's part goes to another, which shares it when that is back."""
    async with running(run_dir), client(run_dir) as c, hosts(run_dir, "r0") as (a,):
        await publish(c)
        await provision(c, "1", 4)
        await eventually(lambda: a.targets.get(KEY) == 4)
        a.come_up()
    async with running(run_dir) as control, client(run_dir) as c:
        a = ReadyHost(run_dir, "r0", slots=8)
        a.ready[KEY] = 4
        a.membership.report_share(KEY, 4)
        b = ReadyHost(run_dir, "r1", slots=8)
        await b.start()
        await a.start()
        await eventually(lambda: control.ledger.standing(KEY, ()).ready == 4)
        assert (await statuses(c))["1"] == (4, 4, 4, "READY") and KEY not in b.targets
        await a.stop()
        await eventually(lambda: b.targets.get(KEY) == 4)
        b.come_up()
        await eventually(lambda: control.ledger.standing(KEY, ("r0",)).ready == 4)
        assert (await statuses(c))["1"] == (4, 4, 4, "READY")
        again = ReadyHost(run_dir, "r0", slots=8)
        again.ready[KEY] = 4
        again.membership.report_share(KEY, 4)
        await again.start()
        await eventually(lambda: again.targets.get(KEY, 4) + b.targets[KEY] == 4)
        for host in (again, b):
            await host.stop()


async def test_too_much_is_refused_in_awss_words_and_the_account_says_what_is_left(run_dir: Path) -> None:
    """Within the reservation, or with 100 left; $LATEST, an alias of it and an alias beside its version never."""
    async with running(run_dir) as control, client(run_dir) as c:
        await publish(c)
        await alias(c, "live", "1")
        await alias(c, "edge", "$LATEST")
        await provision(c, "1", 100)
        account = pb.GetAccountRequest(tenant_id=TENANT)
        assert (await c.call("GetAccount", account)).unreserved_concurrency == 900
        before = control.state.revision
        refusals: list[tuple[str, int | None, int, str]] = [
            (
                "2",
                801,
                R.ERROR_REASON_INVALID_PARAMETER,
                r"^Specified .* below its minimum value of \[100\]\.$",
            ),
            ("2", 1_001, R.ERROR_REASON_INVALID_PARAMETER, r"account's unreserved concurrency \[1000\]\.$"),
            ("2", 0, R.ERROR_REASON_INVALID_PARAMETER, "at least 1"),
            (
                "$LATEST",
                1,
                R.ERROR_REASON_INVALID_PARAMETER,
                "^Provisioned Concurrency Configs cannot be applied",
            ),
            (
                "edge",
                1,
                R.ERROR_REASON_INVALID_PARAMETER,
                "^Provisioned Concurrency Configs cannot be applied",
            ),
            ("live", 1, R.ERROR_REASON_RESOURCE_CONFLICT, "^Alias can't be used for Provisioned Concurrency"),
            ("9", 1, R.ERROR_REASON_RESOURCE_NOT_FOUND, "Function not found: f:9"),
            ("2", None, R.ERROR_REASON_PROVISIONED_NOT_FOUND, "No Provisioned Concurrency Config found"),
        ]
        for qualifier, requested, reason, text in refusals:
            with pytest.raises(EvenflowError, match=text) as refused:
                await provision(c, qualifier, requested)
            assert refused.value.reason == reason, (qualifier, requested)
        with pytest.raises(EvenflowError, match="total provisioned concurrency"):
            await c.call("PutConcurrency", pb.PutConcurrencyRequest(**NAME, reserved_concurrency=99))
        assert control.state.revision == before

        await c.call("PutConcurrency", pb.PutConcurrencyRequest(**NAME, reserved_concurrency=150))
        with pytest.raises(EvenflowError, match="should not be greater than the reservedConcurrentExecution"):
            await provision(c, "2", 51)
        assert (await c.call("GetAccount", account)).unreserved_concurrency == 850
        await provision(c, "1", None)
        await provision(c, "live", 1)
        with pytest.raises(EvenflowError, match=r"^Version is pointed by a Provisioned Concurrency alias"):
            await provision(c, "1", 1)
        await provision(c, "2", 1)
        with pytest.raises(EvenflowError, match=r"^Alias can't be used"):
            await alias(c, "live", "2")
        with pytest.raises(EvenflowError, match="unpublished"):
            await alias(c, "live", "$LATEST")
