"""A real control: in this process over a unix socket, or as a process of its own."""

import asyncio
import contextlib
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import grpc
from evenflow.control.v1 import control_pb2, control_pb2_grpc, resources_pb2

from services.control.control import Control
from services.control.settings import ControlSettings
from services.shared.channels import Peer
from services.shared.errors import EvenflowError
from services.shared.membership import Membership

ROOT = Path(__file__).parents[3]
TOKEN = "t" * 40
TENANT = "default"
# A whole start of a process on a busy machine.
START_SECONDS = 20.0


def prepare(run_dir: Path) -> None:
    """Folders and token of a fleet."""
    token = run_dir / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)


def settings_of(run_dir: Path, **more: Any) -> ControlSettings:
    """Settings of a control in this process."""
    values = {"heartbeat_interval_ms": 100, "source_lease_ms": 600, **more}
    return ControlSettings(
        node_id="control", data_dir=str(run_dir), run_dir=str(run_dir), token_file=str(run_dir / "token"), **values
    )


@contextlib.asynccontextmanager
async def running(run_dir: Path, **more: Any) -> AsyncIterator[Control]:
    """A control that serves, ended in order."""
    prepare(run_dir)
    control = Control(settings_of(run_dir, **more))
    try:
        await control.start()
        yield control
        await control.drain()
    finally:
        await control.stop()


class Client:
    """Calls of a deployer and of nodes."""

    def __init__(self, run_dir: Path) -> None:
        self.peer = Peer.dial(f"unix:{run_dir}/control.sock", TOKEN)
        self.stub = cast(Any, control_pb2_grpc.ControlServiceStub(self.peer.channel))

    async def call(self, method: str, request: Any, **more: Any) -> Any:
        """A unary call; its refusal as the typed error."""
        try:
            call = getattr(self.stub, method)
            return await call(request, metadata=self.peer.metadata, timeout=10, wait_for_ready=True, **more)
        except grpc.aio.AioRpcError as e:
            raise EvenflowError.from_rpc_error(e) from None

    async def upload(self, data: bytes, chunk_bytes: int = 1 << 20) -> bytes:
        """Store a package; its SHA-256."""
        chunks = [
            control_pb2.UploadPackageRequest(chunk=data[at : at + chunk_bytes])
            for at in range(0, len(data), chunk_bytes)
        ]
        answer = await self.call("UploadPackage", iter(chunks))
        assert answer.size_bytes == len(data) and answer.code_sha256 == hashlib.sha256(data).digest()
        return bytes(answer.code_sha256)

    async def put(
        self, name: str, code: bytes, sources: list[resources_pb2.EventSource] | None = None, **more: Any
    ) -> Any:
        """Put a small function."""
        function = function_of(name, code, **more)
        return await self.call("PutFunction", control_pb2.PutFunctionRequest(function=function, sources=sources))

    async def members(self) -> dict[str, str]:
        """State by node id."""
        answer = await self.call("ListMembers", control_pb2.ListMembersRequest())
        return {
            m.node_id: resources_pb2.MemberState.Name(m.state).removeprefix("MEMBER_STATE_") for m in answer.members
        }

    async def close(self) -> None:
        """Close the channel."""
        await self.peer.close()


@contextlib.asynccontextmanager
async def client(run_dir: Path) -> AsyncIterator[Client]:
    """A client, closed in the end."""
    found = Client(run_dir)
    try:
        yield found
    finally:
        await found.close()


async def error_of(call: Any) -> grpc.aio.AioRpcError:
    """How a stream ended, as the error that reading it by hand does not raise."""
    return grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )


def function_of(name: str, code: bytes, **more: Any) -> resources_pb2.Function:
    """A function that keeps every rule; `latest` fields and the function's own by name."""
    own = {k: more.pop(k) for k in ("tenant_id", "async_config", "reserved_concurrency", "tags") if k in more}
    latest = {"handler": "app.handler", "runtime": "python3", "code_sha256": code, **more}
    return resources_pb2.Function(
        **{"tenant_id": TENANT, **own}, function_name=name, latest=resources_pb2.FunctionVersion(**latest)
    )


def bucket_source(bucket: str, **more: Any) -> resources_pb2.EventSource:
    """A mapping of a bucket."""
    return resources_pb2.EventSource(
        bucket=resources_pb2.BucketSource(bucket=bucket, events=["s3:ObjectCreated:*"], **more)
    )


def package(text: str = "def handler(event, context):\n    return event\n") -> bytes:
    """A zip with one module; the same text gives the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("app.py"), text)
    return buffer.getvalue()


class Node:
    """The shared membership of a node, and what control told it."""

    def __init__(
        self, run_dir: Path, node_id: str, role: str = "RUNTIME", incarnation: str = "i1", slots: int = 0
    ) -> None:
        self.peer = Peer.dial(f"unix:{run_dir}/control.sock", TOKEN)
        self.targets: dict[str, int] = {}
        self.removed: list[str] = []
        self.leases: list[control_pb2.SourceLease] = []
        self.revoked: list[control_pb2.SourceRevoked] = []
        self.membership = Membership(
            self.peer,
            node_id=node_id,
            role=resources_pb2.NodeRole.Value(f"NODE_ROLE_{role}"),
            incarnation=incarnation,
            address=f"unix:{run_dir}/{node_id}.sock",
            slots=slots,
        )
        self.membership.on_share_target = self._on_target
        self.membership.on_source_lease = self.leases.append
        self.membership.on_source_revoked = self.revoked.append
        # What runs, so that less than that cannot be returned.
        self.in_use = 0

    def _on_target(self, target: control_pb2.ShareTarget) -> None:
        if target.removed:
            self.removed.append(target.limit_key)
        self.targets[target.limit_key] = target.target
        self.report(target.limit_key)

    def report(self, limit_key: str) -> None:
        """As a host reports: its target, or what still runs."""
        self.membership.report_share(limit_key, max(self.targets.get(limit_key, 0), self.in_use))

    async def start(self) -> "Node":
        """Join, and wait for the welcome."""
        self.membership.start()
        async with asyncio.timeout(10):
            await self.membership.wait_welcome()
        return self

    async def stop(self) -> None:
        """End the stream; in order when it was leaving."""
        await self.membership.stop()
        await self.peer.close()


@contextlib.asynccontextmanager
async def nodes() -> AsyncIterator[Callable[..., Any]]:
    """Starts nodes, ends them all."""
    started: list[Node] = []

    async def start(*args: Any, **more: Any) -> Node:
        node = Node(*args, **more)
        started.append(node)
        return await node.start()

    try:
        yield start
    finally:
        for node in started:
            await node.stop()


def launch(run_dir: Path, **more: str) -> "subprocess.Popen[str]":
    """Control as a process of its own."""
    prepare(run_dir)
    values = {
        "NODE_ID": "control",
        "DATA_DIR": str(run_dir),
        "RUN_DIR": str(run_dir),
        "TOKEN_FILE": str(run_dir / "token"),
        **more,
    }
    env = {**os.environ, **{f"EVENFLOW_{k}": v for k, v in values.items()}, "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"}
    return subprocess.Popen(
        [sys.executable, "-m", "services.control"], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True
    )
