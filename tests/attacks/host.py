"""A whole runtime service as a process, with a control that deploys, replaces and removes functions under it."""

import asyncio
import hashlib
import itertools
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from evenflow.common.v1 import event_pb2
from evenflow.control.v1 import control_pb2, resources_pb2
from evenflow.runtime.v1 import runtime_pb2

from loadtest.runtime_bench import HostProcess
from loadtest.stand_in_control import StandInControl
from services.runtime import sandbox_folder
from tests.attacks.place import Place
from tests.kit.waiting import until

MAX_CHANGES = 1_000
ANSWER_SECONDS = 150.0
GONE_SECONDS = 10.0
ATTACKER, OTHER, NEIGHBOUR = "attacker", "other", "neighbour"
Key = tuple[str, str]


class HostLostError(Exception):
    """The host ended, or answers no more: the worst that an attack can do."""


class Control(StandInControl):
    """Tells the host at once what is deployed and what is gone."""

    def __init__(self) -> None:
        super().__init__({"account": 50})
        self._known: dict[Key, resources_pb2.Function] = {}
        self._followers: list[asyncio.Queue[control_pb2.WatchResponse]] = []
        self._revisions = itertools.count(2)

    def put(self, key: Key, package: bytes, **version: Any) -> None:
        """Deploy or replace."""
        sha = hashlib.sha256(package).digest()
        self.packages[sha] = package
        fields = {"runtime": "python3", "timeout_ms": 20_000, "memory_mb": 128, **version}
        latest = resources_pb2.FunctionVersion(version="$LATEST", code_sha256=sha, **fields)
        revision = next(self._revisions)
        function = resources_pb2.Function(tenant_id=key[0], function_name=key[1], revision=revision, latest=latest)
        self._known[key] = function
        resource = resources_pb2.Resource(key="/".join(key), function=function)
        self._tell(control_pb2.WatchResponse(revision=revision, upserts=[resource]))

    def remove(self, key: Key) -> None:
        """The function is deleted."""
        if self._known.pop(key, None) is not None:
            self._tell(control_pb2.WatchResponse(revision=next(self._revisions), deleted_keys=["/".join(key)]))

    def deployed(self) -> list[Key]:
        """What is there now."""
        return list(self._known)

    def revision(self, key: Key) -> int:
        """Of what is deployed; 0: nothing is."""
        function = self._known.get(key)
        return function.revision if function is not None else 0

    def _tell(self, change: control_pb2.WatchResponse) -> None:
        for follower in self._followers:
            follower.put_nowait(change)

    async def Watch(self, request: control_pb2.WatchRequest, context: Any) -> AsyncIterator[control_pb2.WatchResponse]:
        """A snapshot, then every change."""
        changes: asyncio.Queue[control_pb2.WatchResponse] = asyncio.Queue(MAX_CHANGES)
        self._followers.append(changes)
        fleet = resources_pb2.Fleet(fleet_id="0" * 32, account_id="0" * 12, region="us-east-1")
        resources = [resources_pb2.Resource(key="/".join(key), function=one) for key, one in self._known.items()]
        yield control_pb2.WatchResponse(
            revision=1,
            upserts=[resources_pb2.Resource(key="fleet", fleet=fleet), *resources],
            in_snapshot=True,
            snapshot_complete=True,
        )
        while True:
            yield await changes.get()

    async def GetFunction(
        self, request: control_pb2.GetFunctionRequest, context: Any
    ) -> control_pb2.GetFunctionResponse:
        """A deployed function."""
        function = self._known.get((request.tenant_id, request.function_name))
        if function is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such function")
        return control_pb2.GetFunctionResponse(function=function)


class AttackHost(HostProcess):
    """The host of one column."""

    def __init__(self, place: Place, settings: dict[str, str]) -> None:
        self.functions = Control()
        self.log_path = place.folder / "host.log"
        self._log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        own = {"CANARY_OF_HOST": place.host_secret, "EVENFLOW_SUPERVISOR_PID": str(os.getpid())}
        super().__init__(place.folder, self.functions, {**own, **settings}, self._log)
        self.token = place.token

    async def stop(self) -> int:
        """As a host; the log's descriptor goes, too."""
        try:
            return await super().stop()
        finally:
            os.close(self._log)

    async def ask(self, key: Key, event: Any, **fields: Any) -> event_pb2.Outcome:
        """Invoke and wait. HostLostError: no outcome comes."""
        # As callers do: a host that knows an older one asks control first.
        revision = self.functions.revision(key)
        outcome = self.invoke(key[1], event, tenant_id=key[0], function_revision=revision, **fields)
        assert self.process is not None
        ended = asyncio.create_task(self.process.wait())
        try:
            await asyncio.wait((outcome, ended), timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
        if not outcome.done():
            outcome.cancel()
            raise HostLostError(f"no outcome within {ANSWER_SECONDS:.0f} s, exit {self.process.returncode}")
        return outcome.result()

    async def sandboxes(self) -> list[runtime_pb2.SandboxDescription]:
        """Every sandbox there is."""
        return list((await self.describe()).sandboxes)

    async def describe(self) -> runtime_pb2.DescribeHostResponse:
        """The host as it describes itself."""
        answer: runtime_pb2.DescribeHostResponse = await self.stub.DescribeHost(
            runtime_pb2.DescribeHostRequest(), metadata=self.peer.metadata
        )
        return answer

    async def log_of(self, key: Key) -> str:
        """The function's log."""
        request = runtime_pb2.ReadLogsRequest(tenant_id=key[0], function_name=key[1], tail_lines=1_000)
        return "".join([part.text async for part in self.stub.ReadLogs(request, metadata=self.peer.metadata)])

    async def clear(self) -> None:
        """Remove every function but the neighbour's, and wait until their sandboxes are gone."""
        for key in self.functions.deployed():
            if key[0] != NEIGHBOUR:
                self.functions.remove(key)

        async def only_neighbours() -> bool:
            return all(one.tenant_id == NEIGHBOUR for one in await self.sandboxes())

        try:
            await until(only_neighbours, GONE_SECONDS)
        except AssertionError:
            raise HostLostError(f"sandboxes of deleted functions are there after {GONE_SECONDS:.0f} s") from None

    def sandbox_folder(self) -> Path:
        """Where code and /tmp folders lie: below the data folder, or where other users may reach them."""
        usual = self.folder / "data" / "runtime" / "runtime-0"
        name = sandbox_folder.PREFIX + hashlib.sha256(str(usual).encode()).hexdigest()[:12]
        outside = Path(tempfile.gettempdir()) / name
        return outside if outside.is_dir() else usual

    def packages_folder(self) -> Path:
        """Where packages are extracted."""
        return self.sandbox_folder() / "packages"
