"""`evenflow up`: refuses in one line, restarts what dies, and leaves nothing behind."""

import os
import signal
import stat
import time
from pathlib import Path

import psutil
import pytest
from evenflow.runtime.v1 import runtime_pb2

from tests.kit.fleet import Fleet, run_cli
from tests.kit.waiting import wait_until

pytestmark = pytest.mark.fleet
STOP_SECONDS = 10.0
ENDLESS = "def handler(event, context):\n    while True: pass\n"
WAITING = "waiting for processes of the last fleet to end"
SERVICES = {"control", "queue-0", "runtime-0", "poller-0", "frontend-0"}


def processes_below(fleet: Fleet) -> list[psutil.Process]:
    """Everything that the supervisor started, and what those started."""
    assert fleet.process is not None
    return psutil.Process(fleet.process.pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[str]:
    """Those that still run."""
    return [f"{p.pid} {p.name()}" for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def running_sandboxes(fleet: Fleet) -> int:
    """Sandboxes that run something now."""
    with fleet.connect() as connection:
        (host,) = connection.hosts().values()
        described: runtime_pb2.DescribeHostResponse = connection.ask(
            host.DescribeHost, runtime_pb2.DescribeHostRequest()
        )
    return described.load.busy


def error_lines(stderr: str) -> list[str]:
    """What a failed command printed."""
    assert "Traceback" not in stderr
    return stderr.strip().splitlines()


def test_a_fleet_guards_its_folder_restarts_what_dies_and_ends_whole(tmp_path: Path) -> None:
    """Private folder; a second fleet and taken ports refused; killed services started again; Ctrl-C leaves nothing."""
    data = tmp_path / "data"
    with Fleet({"retry.throttle_base_seconds": "0.1"}, data=data) as fleet:
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        assert stat.S_IMODE((data / "fleet.token").stat().st_mode) == 0o600
        assert set(fleet.pids()) == SERVICES
        run_dir = Path(fleet.file.run_dir)
        assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700

        second = run_cli("up", "--data", str(data), "--http-port", "9", "--grpc-port", "10")
        assert (second.returncode, error_lines(second.stderr)) == (
            1,
            [
                f"error: data directory {data} is in use by another fleet (pid {fleet.file.pid}): "
                "stop it, or choose another with --data"
            ],
        )
        ports = {"--http-port": fleet.http_port, "--grpc-port": fleet.grpc_port}
        for option, port in ports.items():
            taken = run_cli("up", "--data", str(tmp_path / "other"), option, str(port))
            assert taken.returncode == 1
            # The other door's usual port may be taken by somebody else on this machine; this one is for sure.
            if option == "--http-port" or f"port {port}" in taken.stderr:
                (line,) = error_lines(taken.stderr)
                assert f"port {port} is taken" in line and option in line

        fleet.deploy("hello", "def handler(event, context): return 1")
        fleet.deploy("endless", ENDLESS, timeout_seconds=600)
        killed = {node_id: fleet.kill(node_id) for node_id in ("control", "runtime-0", "poller-0", "frontend-0")}
        for node_id, old in killed.items():
            fleet.wait_restarted(node_id, old)
        assert sum("signal SIGKILL" in line for line in fleet.errors) == 4
        wait_until(lambda: run_cli("invoke", "hello", data=data).stdout.strip() == "1", 20.0, "a run")
        request_id = fleet.cli("invoke", "hello", "--async").strip()
        fleet.cli("event", request_id, "--wait", "--within", "20")

        # A handler that never ends must not hold up the end.
        fleet.cli("invoke", "endless", "--async")
        wait_until(lambda: running_sandboxes(fleet) == 1, 10.0, "the run to begin")
        processes = processes_below(fleet)
        assert len(processes) > len(SERVICES), "sandboxes run as processes below the runtime host"
        started = time.monotonic()
        fleet.interrupt()
        assert fleet.wait_end() == 0
        assert time.monotonic() - started < STOP_SECONDS
        assert not alive(processes)
        assert not run_dir.exists()
        assert not (data / "fleet.json").exists()
        assert run_cli("functions", data=data).stderr.startswith(f"error: no fleet is running on {data}")


def test_a_killed_supervisor_takes_its_services_along_and_the_next_fleet_starts(tmp_path: Path) -> None:
    """kill -9 of `evenflow up`: no process is left, what was deployed is; a second Ctrl-C is faster."""
    data = tmp_path / "data"
    fleet = Fleet(data=data).start()
    try:
        fleet.deploy("hello", "def handler(event, context): return 1")
        processes = processes_below(fleet)
        old_run_dir = Path(fleet.file.run_dir)
        assert fleet.process is not None
        # One that cannot end yet: the next fleet must not begin beside it.
        frozen = fleet.kill("poller-0", signal.SIGSTOP)
        try:
            fleet.process.kill()
            fleet.process.wait(5.0)
            data.chmod(0o755)
            fleet.start(wait=False)
            wait_until(lambda: WAITING in fleet.errors, 10.0, "the next fleet to wait for the last one's processes")
        finally:
            os.kill(frozen, signal.SIGCONT)
        fleet.wait_ready()
        assert not alive(processes)
        assert not old_run_dir.exists()
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        assert fleet.cli("invoke", "hello").strip() == "1"

        processes = processes_below(fleet)
        fleet.interrupt()
        wait_until(lambda: "stopping" in fleet.errors, 5.0)
        fleet.interrupt()
        assert fleet.wait_end(5.0) == 0
        assert not alive(processes)
    finally:
        fleet.stop()
    # The folder has 8 shards for good: control's own words, and nothing stays up.
    done = run_cli("up", "--data", str(data), "--shards", "3", "--http-port", str(fleet.http_port),
                   "--grpc-port", str(fleet.grpc_port))  # fmt: skip
    (line,) = error_lines(done.stderr)
    assert done.returncode == 1
    assert line.startswith("error: control cannot start: ") and "shards" in line
    assert not (data / "fleet.json").exists()
