"""The control process: its parts, made in order, started and ended."""

import logging
import os
from pathlib import Path

from evenflow.control.v1 import control_pb2, control_pb2_grpc

from services.control import founding
from services.control.account import Account
from services.control.aliases import Aliases
from services.control.async_configs import AsyncConfigs
from services.control.belongings import Belongings
from services.control.calls import Parts
from services.control.changes import Changes
from services.control.completion import decide_completion
from services.control.concurrency import Concurrency
from services.control.database import Database, lock_folder
from services.control.editor import FunctionEditor
from services.control.feed import Feed
from services.control.functions import Functions
from services.control.layers import Layers
from services.control.ledger import Ledger
from services.control.members import Members
from services.control.packages import PackageStore
from services.control.permissions import Permissions
from services.control.service import ControlService
from services.control.sessions import Sessions
from services.control.settings import ControlSettings
from services.control.source_book import SourceBook
from services.control.sources import Sources
from services.control.state import State
from services.control.steward import Steward
from services.control.telemetry import ControlTelemetry
from services.control.tenants import Tenants
from services.control.versions import Versions
from services.shared.channels import GrpcServer, read_token
from services.shared.clock import SystemClock
from services.shared.errors import EvenflowError, Reason
from services.shared.identity import CONTROL, CONTROL_NODE
from services.shared.metrics import Metrics
from services.shared.tls import Tls, check_listen, check_node
from services.shared.tracing import Tracer

SERVICE_NAME = "evenflow.control.v1.ControlService"
SERVER_GRACE_SECONDS = 0.3
ID_BYTES = 16
log = logging.getLogger(__name__)


class Control:
    """Everything of control. Make it on the running loop."""

    def __init__(self, settings: ControlSettings) -> None:
        """ValueError: bad settings, a folder in use, a file that does not fit."""
        founding.check_settings(settings)
        self.settings = settings
        self._token = token = read_token(settings.token_file)
        listen = settings.listen or settings.control_target
        tls = Tls.of(settings)
        check_listen(listen, tls)
        check_node(tls, CONTROL, CONTROL_NODE)
        self._listen_address = listen
        folder = Path(settings.data_dir) / "control"
        self._lock = lock_folder(folder)
        try:
            database = Database(folder / "control.db")
            stored = database.load()
            if not stored.resources:
                founded = founding.found(settings, os.urandom(ID_BYTES).hex())
                database.commit(1, [(r.key, r.SerializeToString()) for r in founded], (), ())
                stored = database.load()
            self.state = State(stored.revision, stored.resources)
            founding.require_same(settings, self.state)
            self.packages = PackageStore(folder / "packages", settings.packages_max_bytes)
            self.packages.prepare()
        except BaseException:
            os.close(self._lock)
            raise
        clock = SystemClock()
        self.feed = Feed(self.state, settings.max_followers, settings.follower_backlog)
        self.changes = Changes(database, self.state, self._publish)
        self.sessions = Sessions()
        self.ledger = Ledger(stored.shares, self._tell_target)
        self.members = Members(
            self.state,
            self.changes,
            self.sessions,
            self.ledger,
            clock,
            stored.dead,
            settings.heartbeat_interval_ms,
        )
        self.book = SourceBook(stored.owners, clock.monotonic_ms(), settings.source_lease_ms, stored.progress)
        self.steward = Steward(
            self.state,
            self.changes,
            self.sessions,
            self.members,
            self.ledger,
            self.book,
            clock,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            source_lease_ms=settings.source_lease_ms,
        )
        self.tracer = Tracer("control", settings, clock)
        self.metrics = Metrics("control", settings)
        self._telemetry = ControlTelemetry(self.metrics, self.state, self.feed, self.ledger)
        self._editor = FunctionEditor(self.state, clock, os.urandom)
        self.server = GrpcServer(token, [SERVICE_NAME], tls)
        control_pb2_grpc.add_ControlServiceServicer_to_server(ControlService(self._parts()), self.server.server)

    def _parts(self) -> Parts:
        editor = self._editor
        versions = Versions(editor)
        sources = Sources(editor)
        return Parts(
            state=self.state,
            changes=self.changes,
            feed=self.feed,
            packages=self.packages,
            members=self.members,
            sessions=self.sessions,
            ledger=self.ledger,
            steward=self.steward,
            tracer=self.tracer,
            editor=editor,
            functions=Functions(editor, self.packages, versions, sources),
            versions=versions,
            aliases=Aliases(editor),
            async_configs=AsyncConfigs(editor),
            permissions=Permissions(editor),
            belongings=Belongings(editor, sources),
            layers=Layers(editor, self.packages),
            sources=sources,
            concurrency=Concurrency(editor, self.ledger, self.steward),
            tenants=Tenants(self.state, editor.clock, editor.random_bytes),
            account=Account(self.state),
        )

    async def start(self) -> None:
        """Serve. OSError: the address is taken; ValueError: the settings do not fit what is stored."""
        self.changes.start()
        await self.changes.run(lambda change: founding.decide_account_concurrency(change, self.settings, self.state))
        await self.changes.run(lambda change: decide_completion(change, self._editor))
        self.metrics.serve(self._token)
        self.server.bind(self._listen_address)
        self.steward.start()
        await self.server.start()
        fleet = self.state.fleet
        log.info(
            "fleet %s: %d functions, %d shards, revision %d",
            fleet.fleet_id,
            len(self.state.functions),
            len(self.state.shard_map.owner_node_ids),
            self.state.revision,
        )

    async def drain(self) -> None:
        """Take nothing new; nodes go on with what they know."""
        await self.server.set_serving(False)
        await self.steward.stop()

    async def stop(self) -> None:
        """End the streams, store what was begun, close the file."""
        self.sessions.end_all(_draining)
        await self.server.stop(SERVER_GRACE_SECONDS)
        await self.changes.stop()
        self.metrics.shutdown()
        self.tracer.shutdown()
        os.close(self._lock)

    def _publish(self, change: control_pb2.WatchResponse) -> None:
        self.feed.publish(change)
        self.steward.note_change()

    def _tell_target(self, node_id: str, incarnation: str, target: control_pb2.ShareTarget) -> None:
        session = self.sessions.of(node_id, incarnation)
        if session is not None:
            session.send(control_pb2.JoinResponse(share_target=target))


def _draining() -> EvenflowError:
    return EvenflowError(Reason.ERROR_REASON_DRAINING, "control is stopping: join again", retry_after_ms=100)
