"""The runtime service: parents, packages, pool, admission and the door, put together, started and ended."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import grpc
from evenflow.control.v1 import control_pb2, control_pb2_grpc
from evenflow.runtime.v1 import runtime_pb2_grpc

from services.runtime import memory_budget, sandbox_folder
from services.runtime.admission import Shares
from services.runtime.book import Configuration
from services.runtime.cgroups import Cgroups
from services.runtime.discovery import Runtimes
from services.runtime.dispatch import Dispatcher
from services.runtime.environment import Environments
from services.runtime.function_log import FunctionLogs
from services.runtime.functions import HostedFunction
from services.runtime.intake import Intake
from services.runtime.layers import LayerStore
from services.runtime.nursery import Nursery
from services.runtime.packages import PackageStore
from services.runtime.parentage import Parents
from services.runtime.parents import PreparedParent, Surroundings
from services.runtime.runtimes import Interpreter
from services.runtime.sandbox import linux, strays
from services.runtime.seats import Seats
from services.runtime.service import RuntimeServicer
from services.runtime.settings import RuntimeSettings
from services.runtime.telemetry import Telemetry
from services.runtime.tiers import Isolation, abilities_of, choose
from services.runtime.uids import UidBlock
from services.runtime.usage import UsageLedger
from services.runtime.usage_files import UsageFiles
from services.shared.channels import Peer
from services.shared.clock import Clock
from services.shared.credentials import fleet_secret
from services.shared.errors import EvenflowError
from services.shared.metrics import Metrics
from services.shared.node import Node
from services.shared.settings import SettingsError
from services.shared.tracing import Tracer

SERVICE_NAME = "evenflow.runtime.v1.RuntimeService"
log = logging.getLogger(__name__)


class SandboxHost:
    """Everything of a host but its place in the fleet: give it a configuration, shares and a source of packages.

    adopts_orphans: this process has no children but prepared parents and may end whatever a dead one left behind.
    secret: what functions' credentials are derived from; empty: they get none.
    """

    def __init__(
        self,
        settings: RuntimeSettings,
        configuration: Configuration,
        packages: PackageStore,
        shares: Shares,
        metrics: Metrics,
        tracer: Tracer,
        clock: Clock,
        adopts_orphans: bool,
        secret: bytes = b"",
    ) -> None:
        self.settings = settings
        self.shares = shares
        self._data_dir = os.path.realpath(settings.data_dir)
        self._hides = [self._data_dir, os.path.realpath(settings.run_dir)]
        self.folder = Path(self._data_dir) / "runtime" / settings.node_id
        self.logs = FunctionLogs(self.folder / "logs", settings.log_bytes)
        budget_mb = memory_budget.of_this_machine(settings.memory_mb)
        self.telemetry = Telemetry(metrics, tracer, clock, self._functions, self.states, self._memory_mb)
        self.usage = UsageLedger()
        self._usage_files = UsageFiles(self.usage, self.folder / "usage")
        self.dispatcher = Dispatcher(
            settings, configuration, shares, self.logs, self.telemetry, self.usage, clock, budget_mb
        )
        self.isolation: Isolation
        self._environments = Environments(secret, settings.endpoint_url, lambda: configuration.view, clock)
        self.runtimes = Runtimes(settings)
        self._packages = packages
        self._layers = LayerStore(self.folder / "layers", packages)
        self._clock = clock
        self._adopts_orphans = adopts_orphans
        wants_uids = os.geteuid() == 0 and settings.isolation != "0"
        self._uids = UidBlock(settings.first_uid) if wants_uids else None
        self._cgroups: Cgroups | None = None
        self._parents = Parents(self.runtimes.own, self._parent)

    @property
    def tier(self) -> str:
        """Isolation tier in force; see services/runtime/tiers.py."""
        return self.isolation.tier

    async def start(self) -> None:
        """Prepare folders and the parent, see what this machine allows. OSError, SettingsError: not as it should be."""
        if self._adopts_orphans:
            linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
        started = time.monotonic()
        cgroups = Cgroups(self.settings.node_id, self.settings.cgroup)
        self._cgroups = None if cgroups.missing else cgroups
        self._surroundings = self._look_around()
        await self._parents.own.ensure()
        self.isolation = self._choose(cgroups.missing)
        if not self.isolation.has_cgroup:
            cgroups.close()
            self._cgroups = None
        for parent in self._parents.all():
            parent.prepare(self._for_parents())
        folder = self._sandbox_folder = sandbox_folder.prepare(self.folder, self.isolation)
        self._packages.keep_in(folder / "packages")
        self._layers.keep_in(folder / "layers")
        await asyncio.to_thread(self._packages.prepare)
        await asyncio.to_thread(self._layers.prepare)
        uids = self._uids if self.isolation.has_uid else None
        self._seats = Seats(folder / "tmp", uids.first_uid if uids is not None else None)
        await asyncio.to_thread(self._seats.prepare)
        await asyncio.to_thread(self._usage_files.load)
        self._usage_files.start()
        nursery = Nursery(
            self.settings,
            self.dispatcher,
            Intake(self._packages, self._layers, self.runtimes, self._parents, self.isolation),
            self._parents,
            self._seats,
            self.isolation,
            self._cgroups,
            self.telemetry,
            self._clock,
            self._environments,
        )
        nursery.start()
        self.dispatcher.start(nursery)
        log.info("isolation %s; ready after %.0f ms", self.isolation.describe(), (time.monotonic() - started) * 1_000)

    def _look_around(self) -> Surroundings:
        uids = self._uids
        group = self._cgroups.take() if self._cgroups is not None else None
        surroundings = Surroundings(
            probe_uid=uids.first_uid if uids is not None else os.geteuid(),
            probe_cgroups=tuple(group.entrances) if group is not None else (),
            folder=self._data_dir,
        )
        if self._cgroups is not None and group is not None:
            self._cgroups.give_back(group)
        return surroundings

    def _parent(self, interpreter: Interpreter, is_bare: bool, reads: tuple[str, ...]) -> PreparedParent:
        preload = tuple(name.strip() for name in self.settings.preload.split(",") if name.strip())
        parent = PreparedParent(
            f"{interpreter.line} {'bare' if is_bare else 'prepared'}",
            interpreter,
            () if is_bare else preload,
            reads,
            self._surroundings,
            self._parent_lost,
            (self._uids.fd,) if self._uids is not None else (),
        )
        if hasattr(self, "isolation"):
            parent.prepare(self._for_parents())
        return parent

    def _for_parents(self) -> Mapping[str, object]:
        return {**self.isolation.for_parent(), "hides": self._hides, "folder": self._data_dir}

    def _choose(self, cgroups_missing: str) -> Isolation:
        settings = self.settings
        abilities = abilities_of(self._parents.own.found, self._uids is not None, cgroups_missing)
        try:
            return choose(abilities, settings.isolation, settings.required_tier, settings.network)
        except ValueError as e:
            raise SettingsError(str(e)) from None

    async def drain(self) -> None:
        """Let what runs come to its end; nothing new."""
        await self.dispatcher.drain()

    async def stop(self) -> None:
        """End every process below this one."""
        await self.dispatcher.stop()
        if hasattr(self.dispatcher, "nursery"):
            await self.dispatcher.nursery.stop()
        await asyncio.gather(*(parent.stop() for parent in self._parents.all()))
        if self._cgroups is not None:
            self._cgroups.close()
        if hasattr(self, "_seats"):
            await self._seats.close()
            await asyncio.to_thread(sandbox_folder.leave, self.folder, self._sandbox_folder)
        self.logs.close()
        await self._usage_files.stop()
        if self._uids is not None:
            self._uids.close()

    def parent_pids(self) -> set[int]:
        """Processes of the prepared parents that were started."""
        return {parent.pid for parent in self._parents.all() if parent.pid}

    def states(self) -> Mapping[str, int]:
        """Sandboxes by state; "template": those that only others are forked from."""
        counts = {"blank": 0, "starting": 0, "idle": 0, "busy": 0, "ending": 0, "template": 0}
        nursery = getattr(self.dispatcher, "nursery", None)
        if nursery is not None:
            counts["blank"] = nursery.spare
            counts["template"] = len(nursery.snapshots.sandboxes())
        for sandbox in list(nursery.sandboxes.values()) if nursery is not None else []:
            counts[sandbox.state] = counts.get(sandbox.state, 0) + 1
        return counts

    # The metrics are made before the dispatcher, which writes them.

    def _functions(self) -> list[HostedFunction]:
        return self.dispatcher.functions()

    def _memory_mb(self) -> Mapping[str, int]:
        return self.dispatcher.memory_mb()

    def _parent_lost(self) -> None:
        if self._adopts_orphans and not strays.kill_all(self.parent_pids()):
            log.error("processes of a dead prepared parent would not die")


class RuntimeService:
    """A host in its fleet."""

    def __init__(self, settings: RuntimeSettings, node: Node) -> None:
        self._node = node
        shares = Shares(node.membership.report_share)
        packages = PackageStore(
            Path(settings.data_dir) / "runtime" / settings.node_id / "packages",
            package_source(node.dial(settings.control_target)),
        )
        self.host = SandboxHost(
            settings,
            node.follower,
            packages,
            shares,
            node.metrics,
            node.tracer,
            node.clock,
            adopts_orphans=True,
            secret=fleet_secret(node.token) if node.token else b"",
        )
        self._servicer = RuntimeServicer(self.host, node.clock)
        runtime_pb2_grpc.add_RuntimeServiceServicer_to_server(self._servicer, node.server.server)

    async def start(self) -> None:
        """Be ready to start sandboxes, then join."""
        await self._node.start_following()
        await self.host.start()
        self._node.membership.on_share_target = self._on_share_target
        self._node.follower.subscribe(self.host.dispatcher.configuration_changed)
        await self._node.start()

    async def drain(self) -> None:
        """Say so, let runs end and their outcomes leave."""
        await self._node.drain()
        await self.host.drain()
        await self._servicer.drained()

    async def stop(self) -> None:
        """Leave no process behind."""
        await self.host.stop()
        await self._node.stop()

    def _on_share_target(self, target: control_pb2.ShareTarget) -> None:
        shares = self.host.shares
        if target.removed:
            shares.remove(target.limit_key)
        else:
            shares.set_target(target.limit_key, target.target)
        self.host.dispatcher.shares_changed()


def package_source(control: Peer) -> Callable[[bytes], AsyncIterator[bytes]]:
    """Packages as control serves them."""
    stub = control_pb2_grpc.ControlServiceStub(control.channel)

    async def fetch(code_sha256: bytes) -> AsyncIterator[bytes]:
        call = stub.DownloadPackage(
            control_pb2.DownloadPackageRequest(code_sha256=code_sha256), metadata=control.metadata
        )
        try:
            async for part in call:
                yield part.chunk
        except grpc.aio.AioRpcError as e:
            raise EvenflowError.from_rpc_error(e) from None

    return fetch
