"""Runs that are sent ahead to a busy sandbox: once each, in order, and given back when it dies."""

import asyncio
import re
import time
from collections import Counter
from pathlib import Path

from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.control.v1 import resources_pb2
from evenflow.runtime.v1 import runtime_pb2

from services.runtime import pool
from services.runtime.runs import Run
from tests.integration.runtime.kit import HostKit
from tests.kit.waiting import eventually

S = event_pb2.OutcomeStatus
ASYNC = runtime_pb2.INVOCATION_KIND_ASYNC
NOTE = """
import os, time
def handler(event, context):
    with open(os.environ["EVENFLOW_BUCKET_RUNS"] + "/" + context.aws_request_id, "ab") as file:
        file.write(b"x")
    if event == "die":
        os._exit(9)
    if event == "sleep":
        time.sleep(30)
"""
PRINT = """
import os, subprocess
def handler(event, context):
    if event % 3 == 0:
        print("said", context.aws_request_id)
    if event % 50 == 0:
        os.write(2, b"wrote " + context.aws_request_id.encode() + b"\\n")
    if event % 100 == 0:
        subprocess.run(["echo", "child", context.aws_request_id])
"""
RUNS = [resources_pb2.BucketGrant(bucket="runs", writable=True)]


def runs_of(kit: HostKit) -> Counter[str]:
    """How often each request was begun."""
    folder = Path(kit.settings.data_dir, "buckets", "runs")
    return Counter({path.name: path.stat().st_size for path in folder.iterdir()})


async def warmed(kit: HostKit, name: str, event: object) -> None:
    """Until the host knows that the handler is short, so that it sends ahead."""
    await asyncio.gather(*(kit.invoke(name, event, kind=ASYNC) for _ in range(20)))


async def test_runs_are_sent_ahead_and_each_is_run_once(run_dir: Path) -> None:
    """A thousand no-ops: outcomes and runs are one to one."""
    async with HostKit(run_dir, max_wait_ms=20_000, max_sandboxes=2) as kit:
        kit.deploy("note", NOTE, buckets=RUNS)
        await warmed(kit, "note", "")
        most_ahead = 0
        futures = [kit.begin(kit.invocation("note", "", kind=ASYNC)) for _ in range(1_000)]
        while not all(future.done() for future in futures):
            sandboxes = kit.host.dispatcher.nursery.sandboxes.values()
            most_ahead = max(most_ahead, *(len(sandbox.ahead) for sandbox in sandboxes), 0)
            assert kit.host.dispatcher.busy <= 2
            await asyncio.sleep(0)
        assert 0 < most_ahead <= pool.MAX_AHEAD
        assert {future.result().status for future in futures} == {S.OUTCOME_STATUS_SUCCEEDED}
        runs = runs_of(kit)
        assert len(runs) == 1_020 and set(runs.values()) == {1}
        assert kit.host.dispatcher.waiting == kit.host.dispatcher.busy == 0
        assert [share.in_use for _, share in kit.shares.items()] == [0]


async def test_the_log_stays_in_order(run_dir: Path) -> None:
    """What a run writes, by print, by descriptor or by a child process, stands between its own START and END."""
    async with HostKit(run_dir, max_wait_ms=20_000, max_sandboxes=1) as kit:
        kit.deploy("print", PRINT)
        await warmed(kit, "print", 1)
        await asyncio.gather(*(kit.invoke("print", n, kind=ASYNC) for n in range(600)))
        current = ""
        said: Counter[str] = Counter()
        for line in kit.log("print").splitlines():
            found = re.match(r"(START RequestId:|END RequestId:|said|wrote|child) (\S+)", line)
            if found is None:
                continue
            word, request_id = found.groups()
            if word.startswith("START"):
                assert not current
                current = request_id
                continue
            assert request_id == current, line
            if word.startswith("END"):
                current = ""
            else:
                said[word] += 1
        assert said == {"said": 200, "wrote": 12, "child": 6}


async def test_a_sandbox_that_dies_takes_only_its_own_run_with_it(run_dir: Path) -> None:
    """What had been sent ahead never began: it runs elsewhere, once."""
    async with HostKit(run_dir, max_wait_ms=20_000, max_sandboxes=1) as kit:
        kit.deploy("note", NOTE, buckets=RUNS)
        await warmed(kit, "note", "")
        events = ["die" if n % 40 == 20 else "" for n in range(200)]
        outcomes = await asyncio.gather(*(kit.invoke("note", event, kind=ASYNC) for event in events))
        for event, outcome in zip(events, outcomes, strict=True):
            if event:
                assert outcome.error_type == "Runtime.ExitError"
                assert "exit status 9" in outcome.error_message
            else:
                assert outcome.status == S.OUTCOME_STATUS_SUCCEEDED, outcome
        assert set(runs_of(kit).values()) == {1}


async def test_a_run_that_turns_out_long_is_timed_out_and_the_others_go_on(run_dir: Path) -> None:
    """The time-out counts from its own begin; those behind it wait no longer than that."""
    async with HostKit(run_dir, max_wait_ms=20_000, max_sandboxes=1) as kit:
        kit.deploy("note", NOTE, buckets=RUNS, timeout_ms=400)
        await warmed(kit, "note", "")
        events = ["sleep" if n == 10 else "" for n in range(30)]
        outcomes = await asyncio.gather(*(kit.invoke("note", event, kind=ASYNC) for event in events))
        assert [n for n, o in enumerate(outcomes) if o.status != S.OUTCOME_STATUS_SUCCEEDED] == [10]
        assert outcomes[10].error_type == "Sandbox.Timedout"
        assert outcomes[10].duration_us == 400_000
        await eventually(lambda: kit.host.dispatcher.busy == 0)


async def test_nobody_who_waits_synchronously_is_queued_behind(run_dir: Path) -> None:
    """A synchronous run gets a sandbox of its own."""
    async with HostKit(run_dir, max_wait_ms=20_000, max_sandboxes=4) as kit:
        kit.deploy("note", NOTE, buckets=RUNS)
        await warmed(kit, "note", "")
        behind = [kit.begin(kit.invocation("note", "", kind=ASYNC)) for _ in range(50)]
        sync = kit.begin(kit.invocation("note", ""))
        while not sync.done():
            for sandbox in kit.host.dispatcher.nursery.sandboxes.values():
                assert not any(run.is_sync for run in sandbox.ahead)
            await asyncio.sleep(0)
        await asyncio.gather(*behind)


async def test_a_drain_with_runs_ahead_of_a_sandbox_that_dies_ends(run_dir: Path) -> None:
    """They are refused, and no sandbox is started for them."""
    dies = NOTE.replace("time.sleep(30)", "(time.sleep(0.3), os._exit(9))")
    async with HostKit(run_dir, max_wait_ms=20_000, max_sandboxes=1) as kit:
        kit.deploy("note", dies, buckets=RUNS)
        await warmed(kit, "note", "")
        futures = [kit.begin(kit.invocation("note", "sleep" if n == 5 else "", kind=ASYNC)) for n in range(40)]
        dispatcher = kit.host.dispatcher
        await eventually(lambda: sum(future.done() for future in futures) >= 5)
        async with asyncio.timeout(3):
            await dispatcher.drain()
        outcomes = [future.result() for future in futures]
        assert outcomes[5].error_type == "Runtime.ExitError"
        assert {o.refusal.reason for o in outcomes[6:] if not o.executed_version} == {errors_pb2.ERROR_REASON_DRAINING}


async def test_what_waits_for_a_caller_that_is_gone_is_not_begun(run_dir: Path) -> None:
    """Its lease is another's by now, who runs it."""
    async with HostKit(run_dir, max_wait_ms=20_000, max_sandboxes=1) as kit:
        kit.deploy("slow", "import time\ndef handler(event, context):\n    time.sleep(0.2)\n")
        await kit.invoke("slow", kind=ASYNC)
        runs = [Run(kit.invocation("slow", kind=ASYNC), lambda _run, _outcome: None, 1) for _ in range(5)]
        for run in runs:
            kit.host.dispatcher.submit(run)
        kit.host.dispatcher.withdraw(set(runs))
        assert kit.host.dispatcher.waiting == 0
        await eventually(lambda: kit.host.dispatcher.busy == 0)
        assert kit.log("slow").count("START RequestId") == 2


async def test_a_result_with_impossible_times_is_put_within_the_hosts_own(run_dir: Path) -> None:
    """A handler that forges its result frame cannot make a record that nobody can write down."""
    evil = """
import os, socket, struct, time, uuid
def handler(event, context):
    fields = struct.Struct("!IB16sBQQIHHI")
    head = (fields.size, 5, uuid.UUID(context.aws_request_id).bytes, 0, 2**63, 2**63 - 1, 1, 0, 0, 4)
    socket.socket(fileno=os.dup(3)).send(fields.pack(*head) + b"null")
    time.sleep(1)
"""
    async with HostKit(run_dir) as kit:
        kit.deploy("evil", evil)
        before_ns = time.time_ns()
        outcome = await kit.invoke("evil")
        assert outcome.status == S.OUTCOME_STATUS_SUCCEEDED
        assert before_ns <= outcome.started_at_unix_nano <= time.time_ns()
        assert outcome.duration_us < 10_000_000
