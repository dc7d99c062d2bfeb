"""A control of a few lines: one host can be driven by itself, as a real process, without the rest of the fleet."""

import asyncio
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import grpc
from evenflow.control.v1 import control_pb2, control_pb2_grpc, resources_pb2

from services.shared.errors import EvenflowError, Reason, abort

CHUNK_BYTES = 1_048_576
TENANT = "default"


_Servicer: Any = control_pb2_grpc.ControlServiceServicer


# The stubs make every method abstract; a host calls only these.
class StandInControl(_Servicer):  # type: ignore[misc]
    """The part of ControlService that a host calls: a fleet, functions, packages and shares."""

    def __init__(self, shares: dict[str, int]) -> None:
        self.functions: dict[str, resources_pb2.Function] = {}
        self.packages: dict[bytes, bytes] = {}
        # Told beside the fleet to whoever follows.
        self.resources: list[resources_pb2.Resource] = []
        self.held: list[tuple[str, int]] = []
        self.left = False
        self._shares = shares

    def deploy(self, name: str, files: dict[str, str], **version: Any) -> resources_pb2.Function:
        """A function of these sources; found by asking."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)
        package = buffer.getvalue()
        sha = hashlib.sha256(package).digest()
        self.packages[sha] = package
        fields = {"handler": "app.handler", "runtime": "python3", "timeout_ms": 30_000, "memory_mb": 128, **version}
        latest = resources_pb2.FunctionVersion(version="$LATEST", code_sha256=sha, **fields)
        function = resources_pb2.Function(
            tenant_id=TENANT, function_name=name, revision=len(self.functions) + 1, latest=latest
        )
        self.functions[name] = function
        return function

    async def Watch(self, request: control_pb2.WatchRequest, context: Any) -> AsyncIterator[control_pb2.WatchResponse]:
        """A snapshot with the fleet; functions are asked for."""
        fleet = resources_pb2.Fleet(
            fleet_id="0" * 32, account_id="0" * 12, region="us-east-1", account_concurrency=1_000
        )
        yield control_pb2.WatchResponse(
            revision=1,
            upserts=[resources_pb2.Resource(key="fleet", fleet=fleet), *self.resources],
            in_snapshot=True,
            snapshot_complete=True,
        )
        await _until_cancelled(context)

    async def Join(self, request_iterator: Any, context: Any) -> None:
        """Welcomes, hands out the shares, notes what comes back."""
        first = await context.read()
        if first is grpc.aio.EOF or not first.HasField("hello"):
            await abort(context, EvenflowError(Reason.ERROR_REASON_INVALID_PARAMETER, "the first message is hello"))
        await context.write(
            control_pb2.JoinResponse(welcome=control_pb2.Welcome(fleet_id="0" * 32, heartbeat_interval_ms=1_000))
        )
        for limit_key, target in self._shares.items():
            share = control_pb2.ShareTarget(limit_key=limit_key, target=target)
            await context.write(control_pb2.JoinResponse(share_target=share))
        while True:
            message = await context.read()
            if message is grpc.aio.EOF:
                return
            if message.HasField("share_held"):
                self.held.append((message.share_held.limit_key, message.share_held.held))
            self.left = self.left or message.HasField("leaving")

    async def GetFunction(
        self, request: control_pb2.GetFunctionRequest, context: Any
    ) -> control_pb2.GetFunctionResponse:
        """A deployed function."""
        function = self.functions.get(request.function_name)
        if function is None:
            await abort(context, EvenflowError(Reason.ERROR_REASON_FUNCTION_NOT_FOUND, "no such function"))
        return control_pb2.GetFunctionResponse(function=function)

    async def DownloadPackage(
        self, request: control_pb2.DownloadPackageRequest, context: Any
    ) -> AsyncIterator[control_pb2.DownloadPackageResponse]:
        """A package by its hash."""
        data = self.packages.get(request.code_sha256)
        if data is None:
            await abort(context, EvenflowError(Reason.ERROR_REASON_INVALID_PARAMETER, "no such package"))
        for at in range(0, len(data), CHUNK_BYTES):
            yield control_pb2.DownloadPackageResponse(chunk=data[at : at + CHUNK_BYTES])


async def _until_cancelled(context: Any) -> None:

    ended = asyncio.Event()
    context.add_done_callback(lambda _context: ended.set())
    await ended.wait()
