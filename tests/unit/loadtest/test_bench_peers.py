"""The peers as they are measured: real servers and real workers."""

from pathlib import Path
from types import ModuleType

import pytest

# What `make test` installs has no peers in it; `make bench` brings them.
for module in ("huey", "taskiq", "taskiq_redis", "celery", "nats"):
    pytest.importorskip(module, reason="requirements/bench.txt is not installed")

from loadtest.bench import __main__ as bench  # noqa: E402
from loadtest.bench import processes  # noqa: E402
from loadtest.bench.peers import nats_server, redis_server  # noqa: E402
from loadtest.bench.peers.celery_peer import CeleryPeer  # noqa: E402
from loadtest.bench.peers.huey_peer import HueyPeer  # noqa: E402
from loadtest.bench.peers.jetstream_peer import JetStreamPeer  # noqa: E402
from loadtest.bench.peers.peer import WARM_UP_EVENTS, Peer  # noqa: E402
from loadtest.bench.peers.taskiq_peer import TaskiqPeer  # noqa: E402
from loadtest.bench.results import Results  # noqa: E402

EVENTS = 50


async def _check(peer: Peer) -> None:
    try:
        await peer.start()
        assert (await peer.accept(EVENTS)).events == EVENTS
        assert peer.ticks.runs() == 0
        async with peer.working():
            assert (await peer.end_to_end(EVENTS)).per_second > 0
            await peer.submit_one()
            await peer.ticks.wait_for(WARM_UP_EVENTS + EVENTS + 1)
        assert peer.ticks.runs() == WARM_UP_EVENTS + EVENTS + 1
    finally:
        await peer.stop()


def _processes_of(folder: Path) -> list[int]:
    return [pid for pid in processes.descendants(1) if str(folder) in " ".join(processes.command_of(pid))]


async def test_huey_runs_what_was_submitted_and_nothing_else(run_dir: Path) -> None:
    """Events of the accept row are thrown away; each of the others runs once."""
    await _check(HueyPeer(run_dir))
    assert not list(run_dir.glob("accept-*"))


@pytest.mark.skipif(redis_server.find() is None, reason="redis-server is not installed")
async def test_taskiq_runs_what_was_submitted_and_nothing_else(run_dir: Path) -> None:
    """The same over a Redis that fsyncs before it answers, and that is gone afterwards."""
    peer = TaskiqPeer(run_dir, "always")
    await _check(peer)
    assert not _processes_of(run_dir)


@pytest.mark.skipif(redis_server.find() is None, reason="redis-server is not installed")
async def test_celery_runs_what_was_submitted_and_nothing_else(run_dir: Path) -> None:
    """The same with Celery's own worker processes, which have ended."""
    await _check(CeleryPeer(run_dir))
    assert not _processes_of(run_dir)


@pytest.mark.skipif(nats_server.find() is None, reason="nats-server is not installed")
async def test_jetstream_runs_what_was_submitted_and_nothing_else(run_dir: Path) -> None:
    """The same over a stream in a file."""
    await _check(JetStreamPeer(run_dir))
    assert not _processes_of(run_dir)


@pytest.mark.parametrize(
    ("server", "left"),
    [
        (redis_server, ["huey", "jetstream"]),
        (nats_server, ["huey", "taskiq-everysec", "taskiq-always", "celery-always"]),
    ],
)
def test_without_a_server_only_its_peers_are_left_out(
    server: ModuleType, left: list[str], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others run, and the reader is told what is missing and how to get it."""
    for one in (redis_server, nats_server):
        monkeypatch.setattr(one, "find", lambda one=one: None if one is server else "there")
    results = Results()
    assert [peer.key for peer in bench.make_peers(run_dir, results)] == left
    assert f"{server.__name__.rpartition('.')[2].replace('_', '-')} is not installed" in results.notes[0]
