"""What the Lambda API asks of control, with deadlines; packages in parts."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

import grpc
from evenflow.control.v1 import control_pb2, control_pb2_grpc, resources_pb2

from services.shared.channels import Peer
from services.shared.errors import EvenflowError

CALL_SECONDS = 10.0
# 50 MiB over a local socket, checked and stored with an fsync.
UPLOAD_SECONDS = 60.0
DOWNLOAD_SECONDS = 60.0
PART_BYTES = 1 << 20


class Follower(Protocol):
    """What is needed of the control follower: to see one's own writes at once."""

    async def ask_function(self, tenant_id: str, function_name: str) -> resources_pb2.Function | None:
        """Take control's present answer into the view."""
        ...


class ControlCalls:
    """Calls of control's contract."""

    def __init__(self, peer: Peer, follower: Follower) -> None:
        self._peer = peer
        # The stubs know no asyncio.
        self._stub: Any = control_pb2_grpc.ControlServiceStub(peer.channel)
        self._follower = follower

    async def call(self, method: str, request: Any, seconds: float = CALL_SECONDS) -> Any:
        """One call by its name in the contract. EvenflowError: control refused, or cannot be reached."""
        try:
            return await getattr(self._stub, method)(request, timeout=seconds, metadata=self._peer.metadata)
        except grpc.aio.AioRpcError as e:
            raise EvenflowError.from_rpc_error(e) from None

    async def upload(self, package: bytes) -> bytes:
        """Store a code package; its SHA-256. EvenflowError INVALID_PACKAGE."""
        answer = await self.call("UploadPackage", _parts(package), UPLOAD_SECONDS)
        return bytes(answer.code_sha256)

    async def download(self, code_sha256: bytes) -> AsyncIterator[bytes]:
        """A package's bytes in order. EvenflowError."""
        request = control_pb2.DownloadPackageRequest(code_sha256=code_sha256)
        try:
            async for part in self._stub.DownloadPackage(
                request, timeout=DOWNLOAD_SECONDS, metadata=self._peer.metadata
            ):
                yield part.chunk
        except grpc.aio.AioRpcError as e:
            raise EvenflowError.from_rpc_error(e) from None

    async def refresh(self, tenant_id: str, function_name: str) -> None:
        """Bring this door's view up to date with what was just written, so that an invocation that follows sees it."""
        try:
            await self._follower.ask_function(tenant_id, function_name)
        except EvenflowError:
            # The view follows by itself in a moment.
            return


def _parts(package: bytes) -> Iterator[control_pb2.UploadPackageRequest]:
    for at in range(0, len(package), PART_BYTES):
        yield control_pb2.UploadPackageRequest(chunk=package[at : at + PART_BYTES])
