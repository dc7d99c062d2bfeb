"""Measures one host of sandboxes over its gRPC stream: warm overhead, cold start, rate at load, memory.

`python -m loadtest.runtime_bench` prints the figures as JSON. The host is a real process; control is a stand-in.
"""

import asyncio
import json
import os
import secrets
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from evenflow.common.v1 import event_pb2
from evenflow.control.v1 import control_pb2_grpc
from evenflow.runtime.v1 import runtime_pb2, runtime_pb2_grpc

from loadtest.plain_process import PlainProcess
from loadtest.stand_in_control import TENANT, StandInControl
from services.shared.channels import GrpcServer, Peer
from services.shared.streams import StreamLink

NOOP = {"app.py": "def handler(event, context):\n    return None\n"}
WITH_BOTO3 = {"app.py": "import boto3\nimport time\ndef handler(event, context):\n    time.sleep(event or 0)\n"}
START_SECONDS = 30.0


class HostEndedError(Exception):
    """The host's process ended instead of serving."""


class HostProcess:
    """A host and a stream to it; `errors`: where its standard error goes, a descriptor; None: to this process's own."""

    def __init__(
        self, folder: Path, control: StandInControl, settings: dict[str, str], errors: int | None = None
    ) -> None:
        self.folder = folder
        self.control = control
        self.credits = 0
        self.results: dict[int, asyncio.Future[event_pb2.Outcome]] = {}
        self.process: PlainProcess | None = None
        self.token = secrets.token_hex(32)
        self.room = asyncio.Event()
        self._settings = settings
        self._errors = errors
        self._outbox: list[runtime_pb2.Invocation] = []
        self._last_id = 0

    async def start(self) -> None:
        """Control, host, stream: up. HostEndedError: it does not start."""
        token_file = self.folder / "token"
        token_file.write_text(self.token)
        token_file.chmod(0o600)
        self._server = GrpcServer(self.token, ["evenflow.control.v1.ControlService"])
        control_pb2_grpc.add_ControlServiceServicer_to_server(self.control, self._server.server)
        self._server.bind(f"unix:{self.folder}/control.sock")
        await self._server.start()
        self.process = self.spawn()
        self.peer = Peer.dial(f"unix:{self.folder}/runtime-0.sock", self.token)
        self.stub = runtime_pb2_grpc.RuntimeServiceStub(self.peer.channel)
        self._link = StreamLink(
            "bench",
            dial=lambda: self.stub.Invoke(metadata=self.peer.metadata),
            produce=self._produce,
            on_message=self._on_message,
            hello=lambda: runtime_pb2.InvokeRequest(hello=runtime_pb2.InvokeHello(caller_id="b", incarnation="b")),
        )
        self._link.start()
        ended, serves = asyncio.create_task(self.process.wait()), asyncio.create_task(self.room.wait())
        async with asyncio.timeout(START_SECONDS):
            await asyncio.wait((ended, serves), return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        serves.cancel()
        if not self.room.is_set():
            await self.stop()
            raise HostEndedError(f"the host ended: exit {self.process.returncode}")

    def spawn(self) -> PlainProcess:
        """The host's process, in the same folder each time."""
        environment = {
            **os.environ,
            "EVENFLOW_NODE_ID": "runtime-0",
            "EVENFLOW_DATA_DIR": str(self.folder / "data"),
            "EVENFLOW_RUN_DIR": str(self.folder),
            "EVENFLOW_TOKEN_FILE": str(self.folder / "token"),
            "EVENFLOW_LOG_LEVEL": "warning",
            **self._settings,
        }
        return PlainProcess([sys.executable, "-m", "services.runtime"], environment, self._errors)

    async def stop(self) -> int:
        """SIGTERM, and wait; returns the exit code."""
        await self._link.close()
        await self.peer.close()
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        code = await self.process.wait()
        await self._server.stop(0)
        return code

    def invoke(
        self, name: str, event: Any = None, sync: bool = True, **fields: Any
    ) -> "asyncio.Future[event_pb2.Outcome]":
        """Send one invocation."""
        self._last_id += 1
        kind = runtime_pb2.INVOCATION_KIND_SYNC if sync else runtime_pb2.INVOCATION_KIND_ASYNC
        values: dict[str, Any] = {"version": "$LATEST", "kind": kind, "request_id": os.urandom(16)}
        values |= {"tenant_id": TENANT, **fields}
        invocation = runtime_pb2.Invocation(
            invocation_id=self._last_id,
            function_name=name,
            attempt=1,
            payload=json.dumps(event).encode(),
            **values,
        )
        future = self.results[self._last_id] = asyncio.get_running_loop().create_future()
        self.credits -= 1
        self._outbox.append(invocation)
        self._link.wake()
        return future

    def _produce(self) -> runtime_pb2.InvokeRequest | None:
        if not self._outbox:
            return None
        batch, self._outbox = self._outbox[:500], self._outbox[500:]
        return runtime_pb2.InvokeRequest(batch=runtime_pb2.InvocationBatch(invocations=batch))

    def _on_message(self, message: runtime_pb2.InvokeResponse) -> None:
        self.credits += message.credit_invocations
        self.room.set()
        for result in message.results:
            self.results.pop(result.invocation_id).set_result(result.outcome)


def _quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered), 3),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 3),
    }


async def _warm(host: HostProcess, runs: int) -> tuple[dict[str, float], dict[str, float]]:
    """Interleaved: a warm run, and a refusal, which is the same stream without a sandbox."""
    await host.invoke("noop")
    runs_us, refusals_us = [], []
    for _ in range(runs):
        began = time.perf_counter_ns()
        outcome = await host.invoke("noop")
        runs_us.append((time.perf_counter_ns() - began) / 1_000 - outcome.duration_us)
        began = time.perf_counter_ns()
        await host.invoke("noop", version="9")
        refusals_us.append((time.perf_counter_ns() - began) / 1_000)
    return _quantiles(runs_us), _quantiles(refusals_us)


async def _cold(host: HostProcess, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    inits, totals = [], []
    for number in range(rounds):
        host.control.deploy(f"cold-{number}", WITH_BOTO3)
        # The first one fetches the package; the further sandbox is what is measured.
        first = host.invoke(f"cold-{number}", 0.2)
        await asyncio.sleep(0.1)
        began = time.perf_counter_ns()
        outcome = await host.invoke(f"cold-{number}", 0)
        totals.append((time.perf_counter_ns() - began) / 1e6)
        inits.append(outcome.init_duration_us / 1_000)
        await first
    return _quantiles(inits), _quantiles(totals)


async def _rate(host: HostProcess, total: int) -> float:
    sent = 0
    last: asyncio.Future[event_pb2.Outcome] | None = None
    began = time.perf_counter()
    while sent < total or host.results:
        while sent < total and host.credits > 0:
            last = host.invoke("noop", sync=False)
            sent += 1
        host.room.clear()
        await host.room.wait()
    assert last is not None
    return total / (time.perf_counter() - began)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def run(warm_runs: int = 2_000, cold_rounds: int = 40, load_runs: int = 20_000) -> dict[str, Any]:
    """The figures: times in the unit their name says."""
    with tempfile.TemporaryDirectory(prefix="efb-", dir="/tmp") as folder:
        control = StandInControl({"account": 200})
        control.deploy("noop", NOOP)
        host = HostProcess(Path(folder), control, {"EVENFLOW_RUNTIME_MAX_SANDBOXES": "64"})
        await host.start()
        try:
            assert host.process is not None
            first = time.perf_counter()
            await host.invoke("noop")
            first_ms = (time.perf_counter() - first) * 1_000
            warm, stream_only = await _warm(host, warm_runs)
            init, cold = await _cold(host, cold_rounds)
            cpu = _cpu_seconds(host.process.pid)
            rate = await _rate(host, load_runs)
            cpu = _cpu_seconds(host.process.pid) - cpu
            described = await host.stub.DescribeHost(runtime_pb2.DescribeHostRequest(), metadata=host.peer.metadata)
            noop = [s for s in described.sandboxes if s.function_name == "noop"]
            return {
                "isolation_tier": described.isolation_tier,
                "first_start_ms": round(first_ms, 1),
                "warm_round_trip_us": warm,
                "stream_round_trip_us": stream_only,
                "warm_overhead_us": round(warm["p50"] - stream_only["p50"], 1),
                "cold_init_ms": init,
                "cold_invoke_ms": cold,
                "noop_per_second": round(rate),
                "host_cpu_us_per_invocation": round(cpu * 1e6 / load_runs, 1),
                "noop_sandboxes": len(noop),
            }
        finally:
            await host.stop()


if __name__ == "__main__":
    import uvloop

    print(json.dumps(uvloop.run(run()), indent=2))
