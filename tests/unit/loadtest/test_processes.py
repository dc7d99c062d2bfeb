"""Children and what /proc says of them."""

import os
import sys
from pathlib import Path

import pytest

from loadtest.bench import processes
from loadtest.bench.bystanders import Bystanders, others_percent, parse_machine
from loadtest.bench.evenflow_fleet import service_of
from loadtest.bench.machine import file_system_of
from loadtest.bench.meter import Meter
from loadtest.bench.processes import Child
from tests.kit.waiting import eventually

_STUBBORN = """
import signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "60"])
print("up", flush=True)
time.sleep(60)
"""


async def _started(folder: Path, code: str) -> tuple[Child, int]:
    child = await Child.start("test child", [sys.executable, "-c", code], folder / "log")
    await eventually(lambda: "up" in child.explain())
    (grandchild,) = processes.descendants(child.pid)
    return child, grandchild


def _is_running(pid: int) -> bool:
    # A zombie that its new parent has not collected yet has no command line.
    return processes.command_of(pid) not in ([], [""])


async def test_a_child_that_will_not_end_is_killed_with_its_family(run_dir: Path) -> None:
    """SIGTERM ignored: it and what it started are gone in bounded time."""
    child, grandchild = await _started(run_dir, _STUBBORN)
    await child.stop(within_seconds=0.2)
    assert child.process.returncode == -9
    await eventually(lambda: not _is_running(grandchild), what="the grandchild is gone")


async def test_a_child_that_ended_is_reported_with_its_last_words(run_dir: Path) -> None:
    """The reason is in the error, not in a file that nobody opens."""
    child = await Child.start("test child", [sys.executable, "-c", "raise SystemExit('no disk')"], run_dir / "log")
    await child.process.wait()
    with pytest.raises(RuntimeError, match="test child ended with 1: no disk"):
        child.check_alive()
    await child.stop()


async def test_cpu_and_memory_of_a_process_are_read(run_dir: Path) -> None:
    """This process has both; one that never was has neither."""
    assert processes.cpu_seconds(os.getpid()) > 0
    assert (processes.pss_bytes(os.getpid()) or 0) > 1 << 20
    gone = 1 << 22
    assert (processes.cpu_seconds(gone), processes.pss_bytes(gone), processes.command_of(gone)) == (0.0, None, [])


def test_a_meter_charges_cpu_to_events() -> None:
    """A service that spent 2 s over 1,000 events spent 2,000 microseconds an event; one that came later counts."""
    readings = iter([{"queue": 1.0}, {"queue": 3.0, "sandboxes": 0.5}])
    rate = Meter(lambda: next(readings)).stop(1_000)
    assert rate.cpu_us_per_event == {"queue": 2_000.0, "sandboxes": 500.0}


def test_services_are_known_by_their_command_line() -> None:
    """Only `-m services.NAME` is one."""
    assert service_of(["python", "-m", "services.queue"]) == "queue"
    assert service_of(["python", "-m", "services.runtime.sandbox"]) == ""
    assert service_of(["sleep", "60"]) == ""


def test_the_file_system_of_a_folder_is_its_longest_mount_point() -> None:
    """Whatever the order of the mounts; a name that only begins alike is no match."""
    mounts = "tmpfs /tmp tmpfs rw 0 0\n/dev/b /tmpx xfs rw 0 0\n/dev/a / ext4 rw 0 0\n"
    assert file_system_of(Path("/tmp/some/where"), mounts) == "tmpfs"
    assert file_system_of(Path("/home"), mounts) == "ext4"


def test_bystanders_are_what_the_machine_did_beyond_the_bench() -> None:
    """User, system and stolen time are busy, idle and waiting for a disk are not; guest time is not counted twice."""
    ticks = os.sysconf("SC_CLK_TCK")
    fields = [100, 0, 50, 700, 40, 5, 5, 100, 9_999, 9_999]
    line = "cpu  " + " ".join(str(field * ticks) for field in fields)
    assert parse_machine(f"{line}\ncpu0 1 2 3\n") == (1_000, 740)


def test_work_of_the_bench_itself_is_no_bystander() -> None:
    """A share of the machine, never negative; its own spinning does not count as somebody else's."""
    bystanders = Bystanders()
    before = bystanders.percent()
    spent = os.times()
    while os.times().user - spent.user < 0.1:
        pass
    assert 0 <= before <= 100
    assert 0 <= bystanders.percent() <= 100
    assert others_percent(10.0, 6.0, 5.0) == pytest.approx(10.0)
    assert others_percent(10.0, 6.0, 6.1) == 0
    assert "used" in bystanders.note()
