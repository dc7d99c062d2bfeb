"""A whole fleet for tests: `evenflow up` as a user runs it, in a folder and on ports of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3
import psutil
from botocore.config import Config
from evenflow.control.v1 import control_pb2, resources_pb2

from cli import fleet_file
from cli.commands.shards import describe_shards
from cli.commands.tenants import list_all
from cli.connection import FleetConnection
from cli.fleet_file import FleetFile
from cli.supervisor.plan import PARENT_VARIABLE
from cli.supervisor.ports import free_port
from tests.kit.waiting import wait_until

READY_SECONDS = 45.0
STOP_SECONDS = 12.0
CLI_SECONDS = 45.0
LOG_TAIL_LINES = 30
_READY = re.compile(r"ready (http://\S+) grpc (\S+) data (.+) \(([\d.]+) s\)")
_config: Any = Config
_client: Any = boto3.client


def run_cli(
    *arguments: str, data: Path | None = None, stdin: str = "", **more: Any
) -> subprocess.CompletedProcess[str]:
    """One `evenflow` command in a process of its own, bounded in time."""
    environment = {**os.environ, **more.pop("env", {})}
    if data is not None:
        environment["EVENFLOW_DATA"] = str(data)
    return subprocess.run(
        [sys.executable, "-P", "-m", "cli", *arguments],
        check=False,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=CLI_SECONDS,
        **more,
    )


class Fleet:
    """A fleet that runs inside `with`, or between `start` and `stop`.

    settings: what `--set` gets. data: kept when given, else a fresh folder that goes with the fleet. arguments: more
    for `evenflow up`. python: another interpreter than this one, which has its own Evenflow.
    """

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        data: Path | None = None,
        arguments: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        python: Path | None = None,
    ) -> None:
        self._owns_data = data is None
        self.data = data or Path(tempfile.mkdtemp(prefix="evenflow-test-", dir="/tmp"))
        self.http_port, self.grpc_port = free_port(), free_port()
        self.ready_line = ""
        self.output: list[str] = []
        self.errors: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self._settings = dict(settings or {})
        self._arguments = list(arguments)
        self._environment = dict(environment or {})
        self._python = str(python or sys.executable)
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> "Fleet":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.describe_logs())
        self.stop()

    # --- life

    def start(self, *, wait: bool = True) -> "Fleet":
        """Start it; returns when it is ready. AssertionError, with its logs: it is not in time."""
        command = [self._python, "-P", "-m", "cli", "up", "--data", str(self.data)]
        command += ["--http-port", str(self.http_port), "--grpc-port", str(self.grpc_port)]
        for key, value in self._settings.items():
            command += ["--set", f"{key}={value}"]
        self.ready_line, self.output, self.errors = "", [], []
        self.process = subprocess.Popen(
            command + self._arguments,
            # A test run that is killed leaves no fleet behind.
            env={**os.environ, **self._environment, PARENT_VARIABLE: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._readers = [
            threading.Thread(target=_collect, args=(self.process.stdout, self.output), daemon=True),
            threading.Thread(target=_collect, args=(self.process.stderr, self.errors), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, within_seconds: float = READY_SECONDS) -> None:
        """Until the ready line. AssertionError: it ended before, or took too long."""
        assert self.process is not None
        process = self.process
        wait_until(lambda: self._find_ready() or process.poll() is not None, within_seconds, "the ready line")
        if not self._find_ready():
            raise AssertionError(
                f"`evenflow up` ended: exit {process.returncode}, {self.errors}\n{self.describe_logs()}"
            )

    def interrupt(self) -> None:
        """Ctrl-C."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)

    def wait_end(self, within_seconds: float = STOP_SECONDS) -> int:
        """Until the supervisor has ended; its exit code."""
        assert self.process is not None
        code = self.process.wait(within_seconds)
        for reader in self._readers:
            reader.join(5.0)
        return code

    def stop(self) -> None:
        """Drain it; by SIGKILL, its children too, when that takes too long. Safe to call twice."""
        if self.process is not None and self.process.poll() is None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.wait_end()
            except subprocess.TimeoutExpired:
                for process in children:
                    if process.is_running():
                        process.kill()
                self.process.kill()
                self.process.wait(5.0)
        if self._owns_data:
            shutil.rmtree(self.data, ignore_errors=True)

    # --- what it is

    @property
    def http_url(self) -> str:
        """The HTTP door."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc_address(self) -> str:
        """The gRPC door."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def file(self) -> FleetFile:
        """fleet.json as it is now."""
        found = fleet_file.read(self.data)
        assert found is not None, f"no fleet.json in {self.data}"
        return found

    def pid_of(self, node_id: str) -> int:
        """The pid of a node; 0 while none runs."""
        return self.file.nodes[node_id].pid

    def pids(self) -> dict[str, int]:
        """Every node's pid."""
        return {node_id: node.pid for node_id, node in self.file.nodes.items()}

    def kill(self, node_id: str, signum: signal.Signals = signal.SIGKILL) -> int:
        """Send a node a signal; its pid."""
        pid = self.pid_of(node_id)
        os.kill(pid, signum)
        return pid

    def wait_restarted(self, node_id: str, old_pid: int, within_seconds: float = 15.0) -> int:
        """Until the supervisor runs this node again; the new pid."""
        return wait_until(
            lambda: pid if (pid := self.pid_of(node_id)) not in (0, old_pid) else 0,
            within_seconds,
            f"{node_id} to be started again",
        )

    # --- what it does

    def cli(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """Standard output of an `evenflow` command on this fleet. AssertionError: it failed and `check` is set."""
        done = run_cli(*arguments, data=self.data, stdin=stdin)
        assert not check or done.returncode == 0, f"evenflow {arguments}: {done.returncode}: {done.stderr}"
        return done.stdout

    def cli_json(self, *arguments: str) -> Any:
        """What a command prints with --json."""
        return json.loads(self.cli(*arguments, "--json"))

    def connect(self) -> FleetConnection:
        """The services over their contracts; close it."""
        return FleetConnection(self.data)

    def new_key(self, tenant_id: str = "default", neighbours: Sequence[str] = ()) -> tuple[str, str]:
        """A new access key of a tenant, which is made with these neighbours where it is not there: id and secret."""
        with self.connect() as fleet:
            if not any(one.tenant_id == tenant_id for one in list_all(fleet)):
                fleet.ask(
                    fleet.control.PutTenant,
                    control_pb2.PutTenantRequest(
                        tenant=resources_pb2.Tenant(tenant_id=tenant_id, neighbours=neighbours)
                    ),
                )
            request = control_pb2.CreateAccessKeyRequest(tenant_id=tenant_id)
            made = fleet.ask(fleet.control.CreateAccessKey, request).access_key
        return made.access_key_id, made.secret

    def lambda_client(
        self,
        connections: int = 16,
        key: tuple[str, str] = ("any", "any"),
        session_token: str | None = None,
        **config: Any,
    ) -> Any:
        """boto3's own client of the HTTP door."""
        return _client(
            "lambda",
            endpoint_url=self.http_url,
            region_name="us-east-1",
            aws_access_key_id=key[0],
            aws_secret_access_key=key[1],
            aws_session_token=session_token,
            config=_config(max_pool_connections=connections, **{"retries": {"max_attempts": 0}, **config}),
        )

    def deploy(self, name: str, source: str, **more: Any) -> None:
        """Deploy a function of one module; `more` are keys of evenflow.toml's [[functions]]."""
        self.deploy_all(source, {name: more})

    def deploy_all(self, source: str, functions: Mapping[str, Mapping[str, Any]]) -> None:
        """Deploy several functions of the same module at once, each with its own keys."""
        folder = Path(tempfile.mkdtemp(prefix="function-", dir=self.data))
        (folder / "app.py").write_text(textwrap.dedent(source))
        manifest = [_manifest({"name": name, "handler": "app.handler", **more}) for name, more in functions.items()]
        (folder / "evenflow.toml").write_text("\n".join(manifest))
        self.cli("deploy", str(folder))

    def depth(self) -> int:
        """Events not settled yet, over all shards."""
        with self.connect() as connection:
            rows, silent = describe_shards(connection)
        return sum(row["depth"] for row in rows) if not silent else -1

    def wait_drained(self, within_seconds: float = 30.0) -> None:
        """Until every event is settled."""
        wait_until(lambda: self.depth() == 0, within_seconds, "all events to be settled")

    def describe_logs(self) -> str:
        """The end of every log, for a failed test's report."""
        parts = [f"supervisor stdout: {self.output}", f"supervisor stderr: {self.errors}"]
        for path in sorted((self.data / "logs").glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
            parts.append("\n".join((f"--- {path.name}", *lines)))
        return "\n".join(parts)

    def _find_ready(self) -> bool:
        self.ready_line = next((line for line in self.output if _READY.fullmatch(line)), "")
        return bool(self.ready_line)


def _collect(stream: Any, lines: list[str]) -> None:
    for line in stream:
        lines.append(line.rstrip("\n"))


def _manifest(function: Mapping[str, Any]) -> str:
    """The toml of one function. Strings, numbers, and lists and tables of them: JSON's texts are TOML's, too."""

    def value(one: Any) -> str:
        if isinstance(one, Mapping):
            return "{ " + ", ".join(f"{key} = {value(inner)}" for key, inner in one.items()) + " }"
        if isinstance(one, list):
            return "[" + ", ".join(value(inner) for inner in one) + "]"
        return json.dumps(one)

    return "[[functions]]\n" + "".join(f"{key} = {value(one)}\n" for key, one in function.items())
