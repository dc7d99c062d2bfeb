"""The frontend as a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from evenflow.control.v1 import resources_pb2

from services.frontend.callers import check_reach
from services.shared.config_view import ConfigView
from services.shared.follower import _write_snapshot
from tests.integration.frontend.conftest import resource
from tests.kit.waiting import wait_until

ROOT = Path(__file__).parents[3]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def launch(run_dir: Path, **more: str) -> subprocess.Popen[str]:
    """With a snapshot on disk, so that no control is needed."""
    view = ConfigView()
    view.upsert(resource(fleet=resources_pb2.Fleet(account_id="123456789012", region="us-east-1")))
    _write_snapshot(run_dir / "snapshots" / "frontend-0.bin", view)
    token = run_dir / "token"
    token.write_text("t" * 40)
    token.chmod(0o600)
    values = {
        "NODE_ID": "frontend-0",
        "DATA_DIR": str(run_dir),
        "RUN_DIR": str(run_dir),
        "TOKEN_FILE": str(token),
        "HTTP_LISTEN": f"127.0.0.1:{free_port()}",
        "GRPC_LISTEN": f"127.0.0.1:{free_port()}",
        **more,
    }
    env = {**os.environ, **{f"EVENFLOW_{k}": v for k, v in values.items()}, "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"}
    return subprocess.Popen(
        [sys.executable, "-m", "services.frontend"], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(("setting", "option"), [("HTTP_LISTEN", "--http-port"), ("GRPC_LISTEN", "--grpc-port")])
def test_a_taken_port_ends_the_process_with_one_line(run_dir: Path, setting: str, option: str) -> None:
    """Exit code 3, and the line names address and option."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = launch(run_dir, **{setting: address})
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 3
    assert f"cannot start: {address} is in use: stop what listens there, or choose another with {option}" in errors


@pytest.mark.parametrize("setting", ["HTTP_LISTEN", "GRPC_LISTEN"])
def test_a_door_that_lets_everybody_in_stays_on_this_machine(run_dir: Path, setting: str) -> None:
    """Exit code 3, nothing was bound, and the line says what to do."""
    process = launch(run_dir, **{setting: f"0.0.0.0:{free_port()}"})
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 3
    assert "auth.mode=strict" in errors and "evenflow keys create" in errors and "Traceback" not in errors


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1"])
def test_loopback_is_open_to_both_modes(address: str) -> None:
    """By number or name."""
    check_reach(address, "http.listen", "open")


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1", ":1", "localhost.example:1"])
def test_beyond_loopback_only_strict_doors_listen(address: str) -> None:
    """A name counts as beyond, whatever it resolves to."""
    check_reach(address, "http.listen", "strict")
    with pytest.raises(ValueError, match=r"http\.listen=.*auth\.mode=strict"):
        check_reach(address, "http.listen", "open")


def test_it_serves_without_control_and_ends_on_sigterm(run_dir: Path) -> None:
    """From the snapshot on disk; exit code 0 after the drain."""
    port = free_port()
    process = launch(run_dir, HTTP_LISTEN=f"127.0.0.1:{port}")
    try:

        def is_serving() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_evenflow/health", timeout=2) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        wait_until(is_serving, within_seconds=15)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
    finally:
        process.kill()
        process.communicate()
