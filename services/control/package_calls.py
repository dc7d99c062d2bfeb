"""Calls of code packages."""

import time
from collections.abc import AsyncIterator
from typing import Any

from evenflow.control.v1 import control_pb2

from services.control.calls import Calls
from services.control.function_specs import packages_of
from services.control.functions import SHA256_BYTES
from services.shared.errors import EvenflowError, abort, invalid


class PackageCalls(Calls):
    """See the contract for each."""

    async def UploadPackage(
        self, request_iterator: AsyncIterator[control_pb2.UploadPackageRequest], context: Any
    ) -> control_pb2.UploadPackageResponse:
        """See the contract."""

        async def chunks() -> AsyncIterator[bytes]:
            async for request in request_iterator:
                yield request.chunk

        async def upload() -> control_pb2.UploadPackageResponse:
            code_sha256, data = await self._parts.packages.receive(chunks())
            if not self._parts.packages.has_room(len(data)):
                self._parts.changes.require_room()
                # In a turn of its own, so that no function can begin to use what is removed.
                await self._parts.changes.run(lambda _change: self._make_room())
            await self._parts.packages.store(code_sha256, data)
            return control_pb2.UploadPackageResponse(code_sha256=code_sha256, size_bytes=len(data))

        return await self._answer(context, "control.upload_package", "", upload)

    def _make_room(self) -> None:
        used = {
            code
            for function in self._parts.state.functions.values()
            for version in (function.latest, *function.versions)
            for code in packages_of(version)
        }
        used.update(layer.code_sha256 for layer in self._parts.state.all_layers())
        self._parts.packages.remove_unused(used, time.time())

    async def DownloadPackage(
        self, request: control_pb2.DownloadPackageRequest, context: Any
    ) -> AsyncIterator[control_pb2.DownloadPackageResponse]:
        """See the contract."""
        try:
            if len(request.code_sha256) != SHA256_BYTES:
                raise invalid(f"code_sha256 must have {SHA256_BYTES} bytes, not {len(request.code_sha256)}")
            async for part in self._parts.packages.read(request.code_sha256):
                yield control_pb2.DownloadPackageResponse(chunk=part)
        except EvenflowError as e:
            await abort(context, e)
