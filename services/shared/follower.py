"""Follows control's Watch: the fleet's configuration in memory, the last snapshot on disk."""

import asyncio
import logging
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import grpc
from evenflow.control.v1 import control_pb2, control_pb2_grpc, resources_pb2

from services.policy.backoff import equal_jitter_ms
from services.shared.channels import Peer
from services.shared.config_view import ConfigView
from services.shared.errors import EvenflowError, Reason

BACKOFF_BASE_MS = 50.0
BACKOFF_CAP_MS = 1_000.0
ASK_TIMEOUT_SECONDS = 2.0
# A snapshot on disk is written at most this often: a burst of changes is one write.
PERSIST_DELAY_SECONDS = 0.5
MAX_SNAPSHOT_BYTES = 1 << 30
log = logging.getLogger(__name__)


class ControlFollower:
    """Keeps a view current; works from the snapshot on disk while control is down."""

    def __init__(self, peer: Peer, node_id: str, snapshot_path: Path, *, keeps_secrets: bool = False) -> None:
        """`keeps_secrets`: see ConfigView."""
        self._keeps_secrets = keeps_secrets
        self.view = ConfigView(keeps_secrets=keeps_secrets)
        self._peer = peer
        self._stub = control_pb2_grpc.ControlServiceStub(peer.channel)
        self._node_id = node_id
        self._path = snapshot_path
        self._subscribers: list[Callable[[], None]] = []
        self._ready = asyncio.Event()
        self._dirty = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call this on the loop after every applied change."""
        self._subscribers.append(callback)

    def start(self) -> None:
        """Read the snapshot on disk, then follow."""
        stored = _read_snapshot(self._path, keeps_secrets=self._keeps_secrets)
        if stored is not None:
            self._take(stored)
        self._tasks = [
            asyncio.create_task(self._follow(), name="control follower"),
            asyncio.create_task(self._persist(), name="control snapshot"),
        ]

    @property
    def is_started(self) -> bool:
        """Whether `start` was called."""
        return bool(self._tasks)

    async def wait_ready(self) -> None:
        """Until there is a view, from disk or from control."""
        await self._ready.wait()

    async def stop(self) -> None:
        """Stop following; the snapshot on disk is brought up to date."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._dirty.is_set():
            _write_snapshot(self._path, self.view)

    async def ask_function(self, tenant_id: str, function_name: str) -> resources_pb2.Function | None:
        """The function as control has it now, taken into the view; None: there is none.

        When control does not answer, what the view has; EvenflowError UNAVAILABLE when it has nothing.
        """
        known = self.view.functions.get((tenant_id, function_name))
        try:
            answer = await self._stub.GetFunction(
                control_pb2.GetFunctionRequest(tenant_id=tenant_id, function_name=function_name),
                timeout=ASK_TIMEOUT_SECONDS,
                metadata=self._peer.metadata,
            )
        except grpc.aio.AioRpcError as e:
            if e.code() is grpc.StatusCode.NOT_FOUND:
                return None
            if known is not None:
                return known
            raise EvenflowError(
                Reason.ERROR_REASON_UNAVAILABLE,
                f"control cannot be asked now whether there is a function {function_name!r}; try again",
                retry_after_ms=1_000,
            ) from e
        now = self.view.functions.get((tenant_id, function_name))
        if now is None or now.revision < answer.function.revision:
            key = f"function/{tenant_id}/{function_name}"
            self.view.upsert(resources_pb2.Resource(key=key, function=answer.function))
            self._changed()
            return answer.function
        return now

    async def _follow(self) -> None:
        failures = 0
        while True:
            call = self._stub.Watch(
                control_pb2.WatchRequest(node_id=self._node_id), metadata=self._peer.metadata, wait_for_ready=True
            )
            snapshot: ConfigView | None = None
            try:
                async for message in call:
                    failures = 0
                    if message.in_snapshot:
                        snapshot = snapshot or ConfigView(keeps_secrets=self._keeps_secrets)
                        _apply(snapshot, message)
                        if message.snapshot_complete:
                            self._take(snapshot)
                            snapshot = None
                    else:
                        _apply(self.view, message)
                    if snapshot is None:
                        self._changed()
                log.info("control ended the watch")
            except grpc.aio.AioRpcError as e:
                if failures == 0:
                    log.info("control is not reachable: %s %s", e.code().name, e.details())
            finally:
                call.cancel()
            failures += 1
            await asyncio.sleep(equal_jitter_ms(failures, BACKOFF_BASE_MS, BACKOFF_CAP_MS, random.random()) / 1_000)

    def _take(self, view: ConfigView) -> None:
        self.view = view
        self._ready.set()
        for callback in self._subscribers:
            callback()

    def _changed(self) -> None:
        self._dirty.set()
        for callback in self._subscribers:
            callback()

    async def _persist(self) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(PERSIST_DELAY_SECONDS)
            self._dirty.clear()
            try:
                _write_snapshot(self._path, self.view)
            except OSError as e:
                log.warning("the snapshot of control's state cannot be written: %s", e)


def _apply(view: ConfigView, message: control_pb2.WatchResponse) -> None:
    for resource in message.upserts:
        view.upsert(resource)
    for key in message.deleted_keys:
        view.delete(key)
    view.revision = max(view.revision, message.revision)


def _write_snapshot(path: Path, view: ConfigView) -> None:
    message = control_pb2.WatchResponse(revision=view.revision, upserts=view.resources())
    data = message.SerializeToString()
    # Secrets of access keys may be in it. The folder may be of an older version, which made it open to all.
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        # The length in front shows a torn file.
        file.write(struct.pack(">Q", len(data)) + data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _read_snapshot(path: Path, *, keeps_secrets: bool = True) -> ConfigView | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if len(data) < 8 or len(data) > MAX_SNAPSHOT_BYTES or struct.unpack(">Q", data[:8])[0] != len(data) - 8:
        log.warning("the snapshot of control's state on disk is torn and is not used")
        return None
    view = ConfigView(keeps_secrets=keeps_secrets)
    _apply(view, control_pb2.WatchResponse.FromString(data[8:]))
    return view
