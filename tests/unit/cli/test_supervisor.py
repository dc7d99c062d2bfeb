"""The supervisor's rules: what each process is told, when it is given up, what its log says."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.failures import CliError
from cli.fleet_folder import FleetLock, make_run_folder, prepare_data, prepare_token, remove_run_folder
from cli.supervisor.child import RESTART_CAP_SECONDS, describe_exit, restart_pause
from cli.supervisor.log_file import LogFile, last_words_of
from cli.supervisor.options import SETTINGS_OF_ROLE, UpOptions
from cli.supervisor.plan import DRAIN_ORDER, DRAIN_SECONDS, plan
from cli.supervisor.ports import check_free
from cli.supervisor.supervisor import STAGE_RESERVE_SECONDS, STOP_WITHIN_SECONDS
from services.shared.settings import load


def test_every_process_gets_settings_that_its_service_takes(tmp_path: Path) -> None:
    """Names, folders, the doors' addresses, what --set says; control first."""
    options = UpOptions(
        data=tmp_path, http_port=1, grpc_port=2, shards=3, pollers=2, runtimes=2, settings={"retry.base_seconds": "0.5"}
    )
    plans = plan(options, Path("/run/x"), tmp_path / "token", 77)
    assert [p.node_id for p in plans] == [
        "control", "queue-0", "runtime-0", "runtime-1", "poller-0", "poller-1", "frontend-0"
    ]  # fmt: skip
    loaded: dict[str, Any] = {p.node_id: load(SETTINGS_OF_ROLE[p.role], p.environment) for p in plans}
    assert loaded["control"].shards == 3
    assert loaded["poller-1"].retry_base_seconds == 0.5
    assert (loaded["frontend-0"].http_listen, loaded["frontend-0"].grpc_listen) == ("127.0.0.1:1", "127.0.0.1:2")
    for p in plans:
        settings = loaded[p.node_id]
        assert settings.listen_address == p.target == f"unix:/run/x/{p.node_id}.sock"
        assert (settings.node_id, settings.data_dir, settings.drain_seconds) == (
            p.node_id,
            str(tmp_path),
            DRAIN_SECONDS[p.role],
        )
        assert p.environment["EVENFLOW_SUPERVISOR_PID"] == "77"


def test_what_is_not_said_stays_unset_and_what_is_said_wins(tmp_path: Path) -> None:
    """No shard count for control to disagree with; a drain time and an address of the user's own."""
    said = {"drain.seconds": "5", "http.listen": "0.0.0.0:80"}
    plans = {
        p.node_id: p.environment for p in plan(UpOptions(data=tmp_path, settings=said), Path("/r"), tmp_path / "t", 1)
    }
    assert "EVENFLOW_FLEET_SHARDS" not in plans["control"]
    assert plans["queue-0"]["EVENFLOW_DRAIN_SECONDS"] == "5"
    assert plans["frontend-0"]["EVENFLOW_HTTP_LISTEN"] == "0.0.0.0:80"


def test_the_times_of_the_end_fit_into_ten_seconds() -> None:
    """Each stage has time left for those after it, and all roles have their turn."""
    assert set(DRAIN_ORDER) == set(SETTINGS_OF_ROLE) == set(DRAIN_SECONDS)
    assert sum(DRAIN_SECONDS.values()) < STOP_WITHIN_SECONDS < 10
    assert STAGE_RESERVE_SECONDS * len(DRAIN_ORDER) < STOP_WITHIN_SECONDS / 2


def test_the_pause_before_a_restart_doubles_up_to_its_cap() -> None:
    """100 ms, 200 ms ... 5 s."""
    assert [restart_pause(n) for n in (1, 2, 3, 6)] == [0.1, 0.2, 0.4, 3.2]
    assert restart_pause(7) == restart_pause(10_000) == RESTART_CAP_SECONDS == 5.0


def test_how_an_end_is_told() -> None:
    """Exit codes and signals by name."""
    assert [describe_exit(code) for code in (3, -9, -11, -99)] == [
        "exit 3",
        "signal SIGKILL",
        "signal SIGSEGV",
        "signal 99",
    ]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (['{"level": "error", "message": "cannot start: port 1 is in use"}', '{"level": "info", "message": "bye"}'],
         "port 1 is in use"),
        (["error: retry.base_seconds must be a number"], "retry.base_seconds must be a number"),
        (["Traceback (most recent call last):", "  File x", "ImportError: no module named y", ""],
         "ImportError: no module named y"),
        (['{"level": "info", "message": "serving"}'], "serving"),
        (["7"], "7"),
        ([], ""),
    ],
)  # fmt: skip
def test_the_last_words_of_a_service(lines: list[str], words: str) -> None:
    """Its last error, else its last line."""
    assert last_words_of(lines) == words


def test_a_full_log_is_cut_and_the_part_before_kept(tmp_path: Path) -> None:
    """The process that writes need not notice; last words are those of the last process only."""
    log = LogFile(tmp_path / "x.log", max_bytes=100)
    fd = log.open()
    os.write(fd, b"error: " + b"a" * 100 + b"\n")
    log.rotate_if_full()
    os.write(fd, b"b\n")
    assert (tmp_path / "x.log").read_bytes() == b"b\n"
    assert (tmp_path / "x.log.1").stat().st_size == 108
    os.close(fd)
    os.close(log.open())
    assert log.last_words() == ""


def test_the_lock_names_the_fleet_that_has_it(tmp_path: Path) -> None:
    """Refused at once while that process lives; free when the last process that holds it is gone."""
    first, second = FleetLock(tmp_path), FleetLock(tmp_path)
    first.acquire()
    with pytest.raises(CliError, match=rf"in use by another fleet \(pid {os.getpid()}\)"):
        second.acquire()
    # A service that outlives its supervisor for a moment: worth a wait, and then free.
    script = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, pass_fds=(first.fd,)) as service:
        os.pwrite(first.fd, b"999999999\n", 0)
        first.release()
        with pytest.raises(CliError, match="pid 999999999"):
            second.acquire(wait_seconds=0.1)
        assert service.stdin is not None
        service.stdin.close()
        service.wait(10)
        second.acquire(wait_seconds=5)
    assert (tmp_path / "fleet.lock").read_text() == f"{os.getpid()}\n"
    assert fcntl.fcntl(second.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    second.release()


def test_folder_and_token_are_private_and_made_once(tmp_path: Path) -> None:
    """An old folder with wide rights is narrowed; the token stays the same, but for one that was cut off."""
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    prepare_data(data)
    assert data.stat().st_mode & 0o777 == 0o700
    token = prepare_token(data)
    text = token.read_text()
    token.chmod(0o644)
    assert prepare_token(data).read_text() == text
    assert token.stat().st_mode & 0o777 == 0o600
    token.write_text("")
    assert len(prepare_token(data).read_text().strip()) >= 32


def test_the_run_folder_has_a_short_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base whose path is too long for a socket is passed over; only folders of ours are removed."""
    deep = tmp_path / ("x" * 80)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    made = make_run_folder()
    try:
        assert not made.is_relative_to(deep)
        assert made.stat().st_mode & 0o777 == 0o700
        assert len(f"{made}/frontend-0.metrics.sock") <= 107
    finally:
        remove_run_folder(made)
    assert not made.exists()
    remove_run_folder(deep)
    assert deep.exists()


def test_a_taken_port_is_named_with_the_option_that_changes_it() -> None:
    """And an address of another machine is not called taken."""
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CliError, match=rf"port {port} is taken on 127\.0\.0\.1.*--http-port"):
            check_free(f"127.0.0.1:{port}", "--http-port")
    check_free(f"127.0.0.1:{port}", "--http-port")
    with pytest.raises(CliError, match=r"cannot listen on 192\.0\.2\.1:80"):
        check_free("192.0.2.1:80", "--http-port")
