"""A host of sandboxes without a fleet: a static view, packages made of source text, outcomes awaited."""

import asyncio
import functools
import hashlib
import io
import itertools
import json
import os
import zipfile
from collections.abc import AsyncIterator, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from evenflow.common.v1 import event_pb2
from evenflow.control.v1 import resources_pb2
from evenflow.runtime.v1 import runtime_pb2
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.runtime.admission import Shares
from services.runtime.host import SandboxHost
from services.runtime.packages import PackageStore
from services.runtime.runs import Run
from services.runtime.settings import RuntimeSettings
from services.shared.clock import SystemClock
from services.shared.config_view import ConfigView
from services.shared.credentials import fleet_secret
from services.shared.errors import EvenflowError, Reason
from services.shared.metrics import Metrics
from services.shared.tracing import Tracer

TENANT = "default"
SECRET = fleet_secret("t" * 32)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def zipped(files: Mapping[str, str | bytes], executable: Container[str] = ("bootstrap",)) -> bytes:
    """A package of these files; some of them are programs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3
            entry.external_attr = (0o100755 if name in executable else 0o100644) << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def settings_for(run_dir: Path, **changes: Any) -> RuntimeSettings:
    """Settings of a host whose folders are below run_dir."""
    token = run_dir / "token"
    token.write_text("t" * 32)
    token.chmod(0o600)
    data = run_dir / "data"
    data.mkdir(exist_ok=True)
    return RuntimeSettings(
        node_id="runtime-0", data_dir=str(data), run_dir=str(run_dir), token_file=str(token), **changes
    )


@functools.cache
def metrics_of_process() -> Metrics:
    """Instruments are made once a process."""
    settings = RuntimeSettings(node_id="runtime-test", data_dir="/tmp", run_dir="/tmp", token_file="")
    return Metrics("runtime-test", settings)


class StaticConfiguration:
    """The fleet as a test says it is; `control` holds what only control knows."""

    def __init__(self) -> None:
        self.view = ConfigView()
        self.view.fleet = resources_pb2.Fleet(account_id="123456789012", region="eu-central-1")
        self.control: dict[tuple[str, str], resources_pb2.Function] = {}
        self.asked = 0

    async def ask_function(self, tenant_id: str, function_name: str) -> resources_pb2.Function | None:
        """Counts, and answers as control would."""
        self.asked += 1
        await asyncio.sleep(0)
        return self.control.get((tenant_id, function_name))


class HostKit:
    """A host, its functions and a way to invoke them."""

    def __init__(self, run_dir: Path, account_share: int = 100, **changes: Any) -> None:
        self.settings = settings_for(run_dir, **changes)
        self.configuration = StaticConfiguration()
        self.packages: dict[bytes, bytes] = {}
        self.fetches = 0
        self.reported: list[tuple[str, int]] = []
        self.spans = InMemorySpanExporter()
        self.tracer = Tracer("runtime", self.settings, exporter=self.spans)
        self.failures: dict[str, str] = {}
        self.shares = Shares(self._report)
        store = PackageStore(Path(self.settings.data_dir) / "runtime" / "runtime-0" / "packages", self._fetch)
        self.host = SandboxHost(
            self.settings,
            self.configuration,
            store,
            self.shares,
            metrics_of_process(),
            self.tracer,
            SystemClock(),
            adopts_orphans=False,
            secret=SECRET,
        )
        if account_share:
            self.shares.set_target("account", account_share)
        self._revisions = itertools.count(1)
        self._invocations = itertools.count(1)

    def _report(self, limit_key: str, held: int, failure: str) -> None:
        self.failures[limit_key] = failure
        if self.reported[-1:] != [(limit_key, held)]:
            self.reported.append((limit_key, held))

    async def __aenter__(self) -> "HostKit":
        await self.host.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        pids = self.pids()
        parents = self.host.parent_pids()
        await self.host.stop()
        self.tracer.shutdown()
        alive = [pid for pid in pids | parents if os.path.exists(f"/proc/{pid}")]
        assert not alive, f"left behind: {alive}"

    async def _fetch(self, code_sha256: bytes) -> AsyncIterator[bytes]:
        self.fetches += 1
        data = self.packages.get(code_sha256)
        if data is None:
            raise EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "control has no such package")
        for at in range(0, len(data), 65_536):
            yield data[at : at + 65_536]

    def _keep(self, package: bytes) -> bytes:
        sha = hashlib.sha256(package).digest()
        self.packages[sha] = package
        return sha

    def deploy(
        self, name: str, source: str | dict[str, str] | bytes, layers: Sequence[bytes] = (), **changes: Any
    ) -> resources_pb2.Function:
        """A function of this source; `changes` are fields of its version, or reserved_concurrency."""
        if isinstance(source, str):
            source = {"app.py": source}
        package = source if isinstance(source, bytes) else zipped(source)
        sha = self._keep(package)
        changes["layers"] = [resources_pb2.Layer(name="layer", code_sha256=self._keep(one)) for one in layers]
        reserved = changes.pop("reserved_concurrency", None)
        fields = {"handler": "app.handler", "runtime": "python3", "timeout_ms": 10_000, "memory_mb": 128, **changes}
        function = resources_pb2.Function(
            tenant_id=TENANT,
            function_name=name,
            revision=next(self._revisions),
            latest=resources_pb2.FunctionVersion(version="$LATEST", code_sha256=sha, **fields),
            reserved_concurrency=reserved,
        )
        before = self.configuration.view.functions.get((TENANT, name))
        if before is not None:
            function.versions.extend(before.versions)
            function.last_version = before.last_version
        self._tell(function)
        return function

    def publish(self, name: str, **changes: Any) -> str:
        """Publish $LATEST as control does; returns the number. `changes`: fields that the version has in its place."""
        function = resources_pb2.Function()
        function.CopyFrom(self.configuration.view.functions[TENANT, name])
        function.revision, function.last_version = next(self._revisions), function.last_version + 1
        version = function.versions.add()
        version.CopyFrom(function.latest)
        version.version = str(function.last_version)
        for field, value in changes.items():
            setattr(version, field, value)
        self._tell(function)
        return version.version

    def unpublish(self, name: str, number: str) -> None:
        """Delete a version."""
        function = resources_pb2.Function()
        function.CopyFrom(self.configuration.view.functions[TENANT, name])
        function.revision = next(self._revisions)
        kept = [version for version in function.versions if version.version != number]
        del function.versions[:]
        function.versions.extend(kept)
        self._tell(function)

    def delete(self, name: str) -> None:
        """Delete a function."""
        del self.configuration.view.functions[TENANT, name]
        self.host.dispatcher.configuration_changed()

    def _tell(self, function: resources_pb2.Function) -> None:
        self.configuration.view.functions[TENANT, function.function_name] = function
        self.host.dispatcher.configuration_changed()

    def invocation(self, name: str, event: Any = None, **changes: Any) -> runtime_pb2.Invocation:
        """One invocation of it."""
        fields: dict[str, Any] = {
            "invocation_id": next(self._invocations),
            "tenant_id": TENANT,
            "function_name": name,
            "version": "$LATEST",
            "request_id": os.urandom(16),
            "payload": json.dumps(event).encode(),
            "kind": runtime_pb2.INVOCATION_KIND_SYNC,
            "attempt": 1,
            **changes,
        }
        return runtime_pb2.Invocation(**fields)

    def begin(self, invocation: runtime_pb2.Invocation) -> "asyncio.Future[event_pb2.Outcome]":
        """Submit; the future gets the outcome."""
        future: asyncio.Future[event_pb2.Outcome] = asyncio.get_running_loop().create_future()
        run = Run(invocation, lambda _run, outcome: future.set_result(outcome), SystemClock().wall_ns())
        self.host.dispatcher.submit(run)
        return future

    async def invoke(self, name: str, event: Any = None, **changes: Any) -> event_pb2.Outcome:
        """Submit and wait."""
        return await self.begin(self.invocation(name, event, **changes))

    async def call(self, name: str, event: Any = None, **changes: Any) -> Any:
        """The handler's result; AssertionError when there is none."""
        outcome = await self.invoke(name, event, **changes)
        assert outcome.status == event_pb2.OUTCOME_STATUS_SUCCEEDED, outcome
        return json.loads(outcome.response_payload)

    def log(self, name: str) -> str:
        """The function's log on this host."""
        return self.host.logs.of(TENANT, name).tail(10_000).decode()

    def pids(self) -> set[int]:
        """Processes of sandboxes."""
        return {s.pid for s in self.host.dispatcher.nursery.sandboxes.values() if s.pid}


class PatientHost(HostKit):
    """One whose first sandbox of a runtime may take its time: a parent or a program is started for it."""

    def __init__(self, run_dir: Path, **changes: Any) -> None:
        super().__init__(run_dir, **{"max_wait_ms": 30_000, **changes})
