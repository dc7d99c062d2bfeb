"""Real service processes below one folder, started, stopped and killed by their pids."""

import os
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.kit.waiting import wait_until

ROOT = Path(__file__).parents[2]
END_SECONDS = 15.0


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServiceProcesses:
    """`python -m services.X` for each node; their logs stand in the folder."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        """`settings`: environment variables for all of them."""
        self.folder = folder
        self.run_dir = folder / "run"
        self.data_dir = folder / "data"
        for path in (self.run_dir, self.data_dir):
            path.mkdir(mode=0o700, exist_ok=True)
        self.token = secrets.token_hex(32)
        token_file = folder / "token"
        token_file.write_text(self.token)
        token_file.chmod(0o600)
        self._environment = {
            **os.environ,
            "EVENFLOW_DATA_DIR": str(self.data_dir),
            "EVENFLOW_RUN_DIR": str(self.run_dir),
            "EVENFLOW_TOKEN_FILE": str(token_file),
            "EVENFLOW_SUPERVISOR_PID": str(os.getpid()),
            **settings,
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, node_id: str, **more: str) -> None:
        """Start a node by its id, such as poller-0; `more`: environment variables of its own."""
        service = node_id.partition("-")[0]
        with open(self.folder / f"{node_id}.log", "ab") as log:
            self._processes[node_id] = subprocess.Popen(
                [sys.executable, "-m", f"services.{service}"],
                cwd=ROOT,
                env={**self._environment, **more, "EVENFLOW_NODE_ID": node_id},
                stdout=log,
                stderr=log,
            )

    def signal(self, node_id: str, signum: int) -> None:
        """Send a signal to a node."""
        self._processes[node_id].send_signal(signum)

    def wait(self, node_id: str, within_seconds: float = END_SECONDS) -> int:
        """Until the node has ended; its exit code."""
        return self._processes[node_id].wait(within_seconds)

    def kill(self, node_id: str) -> None:
        """SIGKILL, and wait."""
        self.signal(node_id, signal.SIGKILL)
        self.wait(node_id)

    def serving_count(self, node_id: str) -> int:
        """How often a node said that it serves."""
        try:
            return (self.folder / f"{node_id}.log").read_text().count('"message": "serving"')
        except FileNotFoundError:
            return 0

    def restart(self, node_id: str) -> None:
        """Start a node that has ended, and wait until it serves."""
        before = self.serving_count(node_id)
        self.start(node_id)
        wait_until(lambda: self.serving_count(node_id) > before, END_SECONDS, f"{node_id} serves again")

    def stop(self) -> None:
        """End all of them."""
        running = [process for process in self._processes.values() if process.poll() is None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
