"""Control as a process: killed and started again, refused starts, a drain."""

import asyncio
import hashlib
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from evenflow.control.v1 import control_pb2

from services.control.database import Database
from services.shared.errors import EvenflowError
from tests.integration.control.kit import (
    START_SECONDS,
    TENANT,
    Client,
    bucket_source,
    client,
    launch,
    nodes,
    package,
    running,
)
from tests.kit.waiting import eventually

WRITERS = 8
KILL_AFTER_ANSWERS = 40


@pytest.fixture
def processes() -> Iterator[list["subprocess.Popen[str]"]]:
    """What a test started; nothing is left running."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


async def serving(c: Client) -> None:
    """Until control answers; AssertionError when it does not in time."""

    async def answers() -> bool:
        try:
            async with asyncio.timeout(2):
                await c.members()
        except (EvenflowError, TimeoutError):
            return False
        return True

    predicate: Callable[[], bool | Awaitable[bool]] = answers
    await eventually(predicate, START_SECONDS, "control serves")


async def test_whatever_was_acknowledged_is_there_after_a_kill(
    run_dir: Path, processes: list["subprocess.Popen[str]"]
) -> None:
    """kill -9 between any two writes of eight writers, twice; the second start has every answer that was given."""
    acknowledged: dict[str, int] = {}
    answers = 0

    async def write(writer: int, code: bytes, c: Client) -> None:
        nonlocal answers
        while True:
            name = f"w{writer}-{answers % 20}"
            try:
                answer = await c.put(name, code, description=str(answers))
            except EvenflowError:
                return
            acknowledged[name] = answer.function.revision
            answers += 1

    async def write_and_be_killed(c: Client) -> None:
        """Control, and eight writers that go on until it is killed under them."""
        processes.append(launch(run_dir, CONTROL_HEARTBEAT_INTERVAL_MS="200"))
        await serving(c)
        code = await c.upload(package())
        enough = answers + KILL_AFTER_ANSWERS
        writers = [asyncio.create_task(write(i, code, c)) for i in range(WRITERS)]
        await eventually(lambda: answers >= enough, 10)
        processes[-1].kill()
        processes[-1].wait()
        # Their calls would wait for it to come back.
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)

    async with client(run_dir) as c, nodes() as start:
        await write_and_be_killed(c)
        await write_and_be_killed(c)
        processes.append(launch(run_dir))
        await serving(c)
        await start(run_dir, "runtime-0", slots=4)
        page = await c.call("ListFunctions", control_pb2.ListFunctionsRequest(tenant_id="default", page_size=1_000))
        found = {f.function_name: f.revision for f in page.functions}
        assert answers >= 2 * KILL_AFTER_ANSWERS
        # One that was written and not answered may be newer than what was acknowledged; never older, never gone.
        assert all(found.get(name, 0) >= revision for name, revision in acknowledged.items())
        code = hashlib.sha256(package()).digest()
        call = c.stub.DownloadPackage(control_pb2.DownloadPackageRequest(code_sha256=code), metadata=c.peer.metadata)
        assert b"".join([part.chunk async for part in call]) == package()
    processes[-1].send_signal(signal.SIGTERM)
    assert processes[-1].wait(timeout=15) == 0
    with sqlite3.connect(run_dir / "control" / "control.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_a_start_that_does_not_fit_is_refused_in_one_line(
    run_dir: Path, processes: list["subprocess.Popen[str]"]
) -> None:
    """Exit code 3 and what the data folder has; nothing set means what is stored."""
    processes.append(launch(run_dir, FLEET_SHARDS="4", FLEET_QUEUE_NODES="queue-0,queue-1"))
    async with client(run_dir) as c:
        await serving(c)
    second = launch(run_dir)
    processes.append(second)
    _, errors = await asyncio.to_thread(second.communicate, timeout=START_SECONDS)
    assert second.returncode == 3
    assert f"is in use by another fleet's control (process {processes[0].pid})" in errors
    processes[0].send_signal(signal.SIGTERM)
    assert processes[0].wait(timeout=15) == 0

    refused = {
        "FLEET_SHARDS": ("8", "has 4 shards, for good: leave fleet.shards out or set it to 4"),
        "FLEET_ACCOUNT_ID": ("000000000000", "has account 123456789012"),
        "FLEET_QUEUE_NODES": ("queue-1", "has shards on queue-0 (0, 2), which fleet.queue_nodes does not name"),
        "FLEET_REGION": ("nowhere", "must look like us-east-1"),
    }
    started = {
        name: launch(run_dir, **{"DATA_DIR": str(copy(run_dir, name)), name: value})
        for name, (value, _) in refused.items()
    }
    processes.extend(started.values())
    for name, process in started.items():
        _, errors = await asyncio.to_thread(process.communicate, timeout=START_SECONDS)
        assert process.returncode == 3, errors
        assert refused[name][1] in errors and len(errors.strip().splitlines()) == 1


def copy(run_dir: Path, name: str) -> Path:
    """The data folder once more, so that refusals can be asked for at the same time."""
    target = run_dir / name.lower()
    shutil.copytree(run_dir / "control", target / "control")
    return target


async def test_what_an_older_version_stored_is_completed_at_start(run_dir: Path) -> None:
    """Every $LATEST has a revision id, every source is known as a deploy's; once, so that ids stay."""
    async with running(run_dir), client(run_dir) as c:
        await c.put("f", await c.upload(package()), [bucket_source("podcast-in")])
    database = Database(run_dir / "control" / "control.db")
    stored = database.load()
    for resource in stored.resources:
        if resource.HasField("function"):
            resource.function.latest.ClearField("revision_id")
            resource.function.async_config.maximum_retry_attempts = 1
        if resource.HasField("source"):
            for field in ("is_of_deploy", "created_at_ms", "modified_at_ms"):
                resource.source.ClearField(field)
    old = [(resource.key, resource.SerializeToString()) for resource in stored.resources]
    database.commit(stored.revision, old, (), ())
    database.close()
    seen: list[tuple[str, int]] = []
    for _ in range(2):
        async with running(run_dir) as control, client(run_dir) as c:
            function = control.state.functions[TENANT, "f"]
            assert function.async_config.modified_at_ms
            assert all(source.is_of_deploy and source.created_at_ms for source in control.state.sources.values())
            seen.append((function.latest.revision_id, control.state.revision))
            request = control_pb2.PublishVersionRequest(tenant_id=TENANT, function_name="f")
            assert (await c.call("PublishVersion", request)).published.version == "1"
    assert seen[0][0] == seen[1][0] != ""
