"""One frontend process: both doors, the streams behind them, start and drain."""

import asyncio
import random
from collections.abc import Sequence
from typing import Protocol

from evenflow.frontend.v1 import frontend_pb2_grpc

from services.frontend.accept import Accepter
from services.frontend.callers import Callers, check_reach
from services.frontend.function_urls.url_book import UrlBook
from services.frontend.function_urls.url_door import UrlDoor
from services.frontend.http_api import ApiDoor
from services.frontend.http_door import HttpDoor
from services.frontend.http_replies import Replies
from services.frontend.http_server import HttpServer, bind
from services.frontend.invocations import Invocations
from services.frontend.lambda_api.api import LambdaApi
from services.frontend.lambda_api.control_calls import ControlCalls
from services.frontend.lambda_api.links import Links
from services.frontend.queue_fleet import QueueFleet
from services.frontend.runtime_fleet import RuntimeFleet
from services.frontend.service import FrontendServicer
from services.frontend.settings import FrontendSettings
from services.frontend.submissions import Submissions
from services.frontend.targets import DEFAULT_REGION, Configuration, Targets
from services.frontend.telemetry import Telemetry
from services.frontend.webhooks import Webhooks
from services.shared.aws import AwsCalls
from services.shared.channels import GrpcServer, Peer
from services.shared.clock import Clock
from services.shared.credentials import fleet_secret
from services.shared.metrics import Metrics
from services.shared.tracing import Tracer

SERVICE_NAME = "evenflow.frontend.v1.FrontendService"
STOP_GRACE_SECONDS = 0.5
DRAIN_POLL_SECONDS = 0.02


class FrontendNode(Protocol):
    """What the frontend needs of its node (services.shared.node.Node)."""

    @property
    def clock(self) -> Clock: ...
    @property
    def token(self) -> str: ...
    @property
    def incarnation(self) -> str: ...
    @property
    def tracer(self) -> Tracer: ...
    @property
    def metrics(self) -> Metrics: ...
    @property
    def follower(self) -> Configuration: ...
    @property
    def server(self) -> GrpcServer: ...
    def dial(self, target: str) -> Peer: ...
    async def start_following(self) -> None: ...
    async def start(self) -> None: ...
    async def drain(self) -> None: ...
    async def stop(self) -> None: ...


class Frontend:
    """See services.shared.lifecycle.Service."""

    def __init__(self, settings: FrontendSettings, node: FrontendNode) -> None:
        self._settings = settings
        self._node = node
        clock, configuration = node.clock, node.follower
        self.accepter = Accepter(settings, clock, node.tracer, lambda: configuration.view)
        self._telemetry = Telemetry(node.metrics, clock, lambda: self.accepter.pending_events)
        self.accepter.telemetry = self._telemetry
        self._targets = Targets(configuration)
        self._aws = AwsCalls(settings, "frontend-aws")
        self.callers = Callers(configuration, clock, fleet_secret(node.token), settings.auth_mode)
        self.queues = QueueFleet(settings, clock, configuration, node.dial, self.accepter)
        self.runtimes = RuntimeFleet(settings, configuration, node.dial, node.incarnation)
        self._submissions = Submissions(self._targets, self.accepter, node.tracer, self._telemetry)
        self._invocations = Invocations(
            self._targets, self.runtimes, self.queues, clock, node.tracer, self._telemetry, random.random
        )
        replies = Replies(self._telemetry, clock)
        urls = UrlDoor(UrlBook(configuration), self._invocations, replies, clock, self.callers, self._region)
        self._webhooks = Webhooks(
            configuration,
            self._submissions,
            self.callers,
            replies,
            fleet_token=node.token,
            endpoint_url=settings.aws_endpoint_url,
        )
        api = self._make_api(replies)
        self._http_door = HttpDoor(
            self._submissions, self._invocations, self.callers, api, urls, replies, clock, self._webhooks
        )
        self.http = HttpServer(settings, self._http_door, clock)
        self._grpc = GrpcServer(None, [SERVICE_NAME])
        # The fleet's token counts at the node's inner socket alone: nothing of the fleet comes in by the public port.
        for server, token in ((self._grpc.server, None), (node.server.server, node.token)):
            servicer = FrontendServicer(
                self._submissions, self._invocations, self.callers, self._telemetry, clock, token
            )
            frontend_pb2_grpc.add_FrontendServiceServicer_to_server(servicer, server)
        self.grpc_port = 0

    async def start(self) -> None:
        """Serve. OSError: an address is in use. ValueError: it is reachable from elsewhere, and everybody may call."""
        for key, address in (("http.listen", self._settings.http_listen), ("grpc.listen", self._settings.grpc_listen)):
            check_reach(address, key, self._settings.auth_mode)
        # Addresses first: a taken one must show before anything else happens.
        self.http.bind()
        self.grpc_port = self._bind_grpc()
        await self._node.start_following()
        self.queues.start()
        self.runtimes.start()
        await self._node.start()
        await self._grpc.start()
        await self.http.start()

    async def drain(self) -> None:
        """Refuse what is new, answer what is in flight."""
        await self._node.drain()
        await self._grpc.set_serving(False)
        self._submissions.is_draining = self._invocations.is_draining = True
        self.http.drain()
        # Three counts of three owners, once in a process's life: looking is simpler than signals.
        while self.accepter.pending_events or self.runtimes.in_flight or self._http_door.owed:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_POLL_SECONDS)

    async def stop(self) -> None:
        """Close everything."""
        await self.http.stop()
        await self._grpc.stop(STOP_GRACE_SECONDS)
        await self.queues.close()
        await self.runtimes.close()
        self._webhooks.close()
        await self._aws.close()
        await self._node.stop()

    def _make_api(self, replies: Replies) -> ApiDoor:
        node, clock = self._node, self._node.clock
        links = Links(node.token)
        control = ControlCalls(node.dial(self._settings.control_target), node.follower)
        api = LambdaApi(control, self._aws, links, clock, self._region, self._neighbours)
        return ApiDoor(api, control, links, replies, clock, self._settings.http_listen)

    def _neighbours(self, tenant_id: str) -> Sequence[str]:
        tenant = self._node.follower.view.tenants.get(tenant_id)
        return tenant.neighbours if tenant is not None else ()

    def _region(self) -> str:
        fleet = self._node.follower.view.fleet
        return (fleet.region if fleet is not None else "") or DEFAULT_REGION

    def _bind_grpc(self) -> int:
        address = self._settings.grpc_listen
        # gRPC's own message does not say that the port is taken: look first, with a plain socket.
        probe = bind(address, "grpc.listen", "--grpc-port")
        probe.close()
        try:
            return self._grpc.bind(address)
        except OSError:
            raise OSError(f"{address} is in use: stop what listens there, or choose another with --grpc-port") from None
