"""One container: a process tree in its own namespaces, its health, commands inside it, and its end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kit.compose_runner.compose_file import Service

LAUNCH = Path(__file__).with_name("launch.py")
KILL_SECONDS = 5.0
STARTING, HEALTHY, UNHEALTHY, ENDED = "starting", "healthy", "unhealthy", "ended"


@dataclass(slots=True)
class Container:
    """What runs for a service; the second replica of poller is `poller-2`.

    binds: (target, source, read-only); hosts: the file with the names that it knows. log: where its output goes.
    """

    name: str
    service: Service
    hostname: str
    network: str
    address: str
    binds: list[tuple[str, str, bool]]
    environment: Mapping[str, str]
    log: Path
    root: Path
    _process: "subprocess.Popen[bytes] | None" = None
    _check: "subprocess.Popen[bytes] | None" = None
    _check_began: float = 0.0
    _check_due: float = 0.0
    _started: float = 0.0
    _failures: int = 0
    health: str = STARTING
    commands: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Start it; again after it has ended, with its files as they are."""
        assert self._process is None or self._process.poll() is not None, f"{self.name} runs already"
        self.health, self._failures, self._started = STARTING, 0, time.monotonic()
        self._check, self._check_due = None, self._started
        self._process = self._launch(self.service.command)

    def run(self, arguments: Sequence[str], timeout_seconds: float) -> "subprocess.CompletedProcess[str]":
        """As `docker compose run`: the entry point with other arguments, in a container that ends with it.

        Arguments that begin with a program of the image's, "python", replace the entry point.
        """
        entry = () if arguments[:1] == ("python",) else self.service.command[:1]
        with open(self.log, "ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-I", str(LAUNCH)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        try:
            out, _ = process.communicate(self._spec((*entry, *arguments)), timeout_seconds)
        finally:
            process.kill()
            process.wait(KILL_SECONDS)
        return subprocess.CompletedProcess(list(arguments), process.returncode, out.decode(), self.tail())

    @property
    def exit_code(self) -> int | None:
        """None: it runs."""
        return self._process.poll() if self._process is not None else None

    @property
    def pid(self) -> int:
        """The service's own process, as the machine numbers it. AssertionError: it does not run."""
        assert self._process is not None
        init = _only_child(self._process.pid)
        return _only_child(init)

    def signal(self, signum: int) -> None:
        """Send the service's process a signal, such as SIGKILL or SIGSTOP."""
        os.kill(self.pid, signum)

    def wait(self, within_seconds: float) -> int:
        """Until it has ended; its exit code."""
        assert self._process is not None
        return self._process.wait(within_seconds)

    def look(self) -> str:
        """Its health now, by its own health check, in its own time; never waits."""
        if self.exit_code is not None:
            self.health = ENDED
            return self.health
        check, now = self.service.health, time.monotonic()
        if check is None:
            return self.health
        if self._check is None:
            if now >= self._check_due:
                self._check, self._check_began = self._start_check(check.command), now
            return self.health
        code = self._check.poll()
        if code is None and now - self._check_began <= check.timeout:
            return self.health
        if code is None:
            _end_group(self._check)
        in_start = now - self._started < check.start_period and self.health == STARTING
        self._check, self._check_due = None, now + (check.start_interval if in_start else check.interval)
        if code == 0:
            self.health, self._failures = HEALTHY, 0
        elif not in_start:
            self._failures += 1
            if self._failures >= check.retries:
                self.health = UNHEALTHY
        return self.health

    def terminate(self) -> None:
        """SIGTERM, as `docker stop` begins."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> bool:
        """SIGTERM, and SIGKILL when the grace is over; whether it went by itself."""
        if self._check is not None:
            _end_group(self._check)
            self._check = None
        if self._process is None:
            return True
        self.terminate()
        try:
            self._process.wait(self.service.stop_grace_seconds)
            return True
        except subprocess.TimeoutExpired:
            # The kernel ends everything inside when its parent is gone.
            self._process.kill()
            self._process.wait(KILL_SECONDS)
            return False

    def tail(self, lines: int = 25) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def _launch(self, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", str(LAUNCH)], stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        assert process.stdin is not None
        process.stdin.write(self._spec(command))
        process.stdin.close()
        return process

    def _start_check(self, command: Sequence[str]) -> "subprocess.Popen[bytes] | None":
        """As `docker exec`: in the container's namespaces, as its user."""
        try:
            target = str(self.pid)
        except (AssertionError, OSError):
            # It is just beginning, or just ending.
            return None
        uid, gid = self._user()
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                [
                    *("nsenter", "--target", target, "--mount", "--uts", "--ipc", "--net", "--pid", "--root"),
                    *(f"--setgid={gid}", f"--setuid={uid}", "--", "env", "-C", self.service.workdir, *command),
                ],
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # nsenter has a child in there, which must end with it.
                start_new_session=True,
            )

    def _spec(self, command: Sequence[str]) -> bytes:
        uid, gid = self._user()
        spec: dict[str, Any] = {
            "network": self.network,
            "hostname": self.hostname,
            "root": str(self.root),
            "binds": self.binds,
            "tmpfs": [_tmpfs(text) for text in self.service.tmpfs],
            "read_only": self.service.is_read_only,
            "workdir": self.service.workdir,
            "uid": uid,
            "gid": gid,
            "command": list(command),
            "environment": dict(self.environment),
        }
        return json.dumps(spec).encode()

    def _user(self) -> tuple[int, int]:
        uid, _, gid = self.service.user.partition(":")
        return int(uid), int(gid or uid)


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(KILL_SECONDS)


def _tmpfs(text: str) -> tuple[str, str]:
    target, _, options = text.partition(":")
    # Docker's own words; the kernel has them as flags.
    return target, ",".join(word for word in options.split(",") if word not in ("exec", "noexec", "rw"))


def _only_child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert children, f"process {pid} has no child"
    return int(children[0])
