"""A fleet of real processes whose runtime host is scripted: each test says what its function answers."""

import io
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.control.v1 import control_pb2, control_pb2_grpc, resources_pb2
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc
from evenflow.poller.v1 import poller_pb2_grpc
from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc
from evenflow.runtime.v1 import runtime_pb2

from cli.scrape import scrape, total
from services.shared import ids
from services.shared.channels import Peer
from services.shared.membership import Membership
from tests.kit.fake_runtime_host import FakeRuntimeHost
from tests.kit.processes import ServiceProcesses, free_port
from tests.kit.waiting import eventually, until

TENANT = "default"
S = event_pb2.OutcomeStatus
Outcome = event_pb2.Outcome
Behave = Callable[[runtime_pb2.Invocation], Outcome | None]
PROCESSES = ("control", "queue-0", "frontend-0", "poller-0")


def arn(name: str) -> str:
    """The ARN of a function of this fleet; an ARN stays what it is."""
    return name if name.startswith("arn:") else f"arn:aws:lambda:us-east-1:123456789012:function:{name}"


def succeeded(payload: bytes = b"null") -> Outcome:
    """The handler returned."""
    return Outcome(
        status=S.OUTCOME_STATUS_SUCCEEDED,
        response_payload=payload,
        executed_version="$LATEST",
        started_at_unix_nano=1_700_000_000_000_000_000,
        duration_us=1_000,
    )


def failed(message: str = "no", version: str = "$LATEST") -> Outcome:
    """The handler raised."""
    return Outcome(
        status=S.OUTCOME_STATUS_FUNCTION_ERROR,
        response_payload=b'{"errorMessage": "%s", "errorType": "ValueError"}' % message.encode(),
        error_type="ValueError",
        error_message=message,
        executed_version=version,
        started_at_unix_nano=1_700_000_000_000_000_000,
        duration_us=1_000,
    )


def refused(reason: "errors_pb2.ErrorReason.ValueType") -> Outcome:
    """Nothing ran."""
    is_throttle = reason == errors_pb2.ERROR_REASON_CONCURRENCY_EXCEEDED
    return Outcome(
        status=S.OUTCOME_STATUS_THROTTLED if is_throttle else S.OUTCOME_STATUS_SYSTEM_ERROR,
        error_type="refused",
        error_message="refused",
        refusal=errors_pb2.ErrorDetail(reason=reason, message="refused"),
    )


class Rig:
    """Control, queue, frontend and poller as processes; the runtime host is this process."""

    def __init__(
        self, folder: Path, nodes: tuple[str, ...] = PROCESSES, environment: Mapping[str, str] | None = None
    ) -> None:
        self.processes = ServiceProcesses(
            folder,
            {
                "EVENFLOW_RETRY_BASE_SECONDS": "0.05",
                "EVENFLOW_RETRY_THROTTLE_BASE_SECONDS": "0.05",
                "EVENFLOW_RETRY_THROTTLE_CAP_SECONDS": "0.2",
                "EVENFLOW_POLLER_PENDING_SECONDS": "0.5",
                "EVENFLOW_POLLER_DELIVERY_SECONDS": "0.5",
                "EVENFLOW_HTTP_LISTEN": f"127.0.0.1:{free_port()}",
                "EVENFLOW_GRPC_LISTEN": f"127.0.0.1:{free_port()}",
                **(environment or {}),
            },
        )
        self.nodes = nodes
        run_dir = self.processes.run_dir
        self.behaviours: dict[str, Behave] = {}
        self.seen: dict[str, list[runtime_pb2.Invocation]] = {}
        self.host = FakeRuntimeHost(run_dir / "runtime-0.sock", self.processes.token, credit=500)
        self.host.behave = self._behave
        self._peers: list[Peer] = []
        self._membership: Membership | None = None
        self.control: Any = control_pb2_grpc.ControlServiceStub(self._dial("control").channel)
        self.metadata = self._peers[0].metadata
        self.door = self.door_of("frontend-0")
        self.poller: Any = poller_pb2_grpc.PollerServiceStub(self._dial("poller-0").channel)
        self._package = b""
        self._deployments = 0
        self._queue: Any = None

    async def start(self) -> None:
        """Everything up."""
        for node_id in self.nodes:
            self.processes.start(node_id)
        await self.host.start()
        for node_id in self.nodes:
            await eventually(lambda node_id=node_id: self.processes.serving_count(node_id), 30, node_id)  # type: ignore[misc]
        await self.join()
        self._package = await self._upload()

    async def stop(self) -> None:
        """Everything down."""
        await self.leave()
        await self.host.stop()
        for peer in self._peers:
            await peer.close()
        self.processes.stop()

    async def join(self) -> None:
        """The runtime host becomes a member."""
        self._membership = Membership(
            self._dial("control"),
            node_id="runtime-0",
            role=resources_pb2.NODE_ROLE_RUNTIME,
            incarnation=ids.new_incarnation(),
            address=self.host.address,
            slots=500,
        )
        self._membership.start()
        await self._membership.wait_welcome()

    async def leave(self) -> None:
        """The runtime host drains and goes."""
        if self._membership is not None:
            self._membership.leave()
            await self._membership.stop()
            self._membership = None

    async def deploy(
        self,
        name: str,
        behave: Behave,
        *,
        on_success: str = "",
        on_failure: str = "",
        reserved: int | None = None,
        retries: int | None = None,
        age_seconds: int | None = None,
        dead_letters: str = "",
    ) -> int:
        """A function that answers so; destinations are names or ARNs. Its published versions stay. Its revision."""
        self._deployments += 1
        self.behaviours[name] = behave
        self.seen[name] = []
        function = resources_pb2.Function(
            tenant_id=TENANT,
            function_name=name,
            latest=resources_pb2.FunctionVersion(
                code_sha256=self._package,
                handler="app.handler",
                runtime="python3",
                dead_letter_arn=dead_letters,
                # So that each deployment can be published.
                description=f"deployment {self._deployments}",
            ),
            async_config=resources_pb2.AsyncConfig(
                on_success_arn=arn(on_success) if on_success else "",
                on_failure_arn=arn(on_failure) if on_failure else "",
                maximum_retry_attempts=retries,
                maximum_event_age_seconds=age_seconds,
            ),
            reserved_concurrency=reserved,
        )
        request = control_pb2.PutFunctionRequest(function=function)
        answer = await self.control.PutFunction(request, metadata=self.metadata)
        revision: int = answer.function.revision
        return revision

    async def caught_up(self) -> None:
        """The poller knows all that control was told before: it hears of changes in order, and of this one last."""
        await self.deploy("marker", lambda i: succeeded())
        revision = await self.deploy("marker", lambda i: succeeded())

        async def has_heard() -> bool:
            await self.ended(await self.enqueue("marker"), "succeeded")
            return self.seen["marker"][-1].function_revision >= revision

        await until(has_heard)

    async def publish(self, name: str) -> str:
        """What is $LATEST becomes a version; its number."""
        request = control_pb2.PublishVersionRequest(tenant_id=TENANT, function_name=name)
        answer = await self.control.PublishVersion(request, metadata=self.metadata)
        number: str = answer.published.version
        return number

    async def point(self, name: str, alias: str, version: str, **weights: float) -> None:
        """An alias of the function names this version; `weights`: v2=0.5 gives half of the traffic to version 2."""
        others = {number.removeprefix("v"): weight for number, weight in weights.items()}
        made = resources_pb2.Alias(name=alias, function_version=version, additional_version_weights=others)
        request = control_pb2.PutAliasRequest(tenant_id=TENANT, function_name=name, alias=made)
        try:
            await self.control.PutAlias(request, metadata=self.metadata)
        except grpc.aio.AioRpcError as e:
            if e.code() not in (grpc.StatusCode.ABORTED, grpc.StatusCode.ALREADY_EXISTS):
                raise
            request.mode = control_pb2.PUT_MODE_CHANGE
            request.update_mask.paths.extend(["function_version", "additional_version_weights"])
            await self.control.PutAlias(request, metadata=self.metadata)

    async def enqueue(self, name: str, qualifier: str = "$LATEST", payload: bytes = b"{}", depth: int = 0) -> bytes:
        """An event put into shard 0 past the doors, as if one had accepted it; its id."""
        now_ms = time.time_ns() // 1_000_000
        event = event_pb2.Event(
            tenant_id=TENANT,
            function_name=name,
            qualifier=qualifier,
            request_id=ids.mint(now_ms, 0),
            payload=payload,
            accepted_at_ms=now_ms,
            expires_at_ms=now_ms + 21_600_000,
            lineage=event_pb2.Lineage(chain_depth=depth),
            trace=event_pb2.TraceContext(traceparent="00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-00"),
        )

        async def batches() -> AsyncIterator[queue_pb2.EnqueueRequest]:
            yield queue_pb2.EnqueueRequest(batch_id=1, shard_map_epoch=1, shard_id=0, events=[event])

        if self._queue is None:
            self._queue = self.queue_of("queue-0")
        async for answer in self._queue.Enqueue(batches(), metadata=self.metadata, timeout=10):
            assert not answer.HasField("refusal") and not answer.event_refusals, answer
            break
        return event.request_id

    def metric(self, node_id: str, name: str, **labels: str) -> float:
        """What this node counted under a Prometheus name, over all series with these labels."""
        path = f"{self.processes.run_dir}/{node_id}.metrics.sock"
        return total(scrape(path, self.processes.token), name, **labels)

    async def delete(self, name: str) -> None:
        """The function goes."""
        await self.control.DeleteFunction(
            control_pb2.DeleteFunctionRequest(tenant_id=TENANT, function_name=name), metadata=self.metadata
        )

    async def submit(self, name: str, payload: bytes = b'{"a":1}') -> bytes:
        """An event; its id."""
        event = frontend_pb2.EventSubmission(function_name=name, payload=payload)
        answer = await self.door.InvokeAsync(
            frontend_pb2.InvokeAsyncRequest(event=event), metadata=self.metadata, wait_for_ready=True, timeout=10
        )
        request_id: bytes = answer.request_id
        return request_id

    async def event(self, request_id: bytes) -> frontend_pb2.GetEventResponse:
        """What the fleet knows of it."""
        answer: frontend_pb2.GetEventResponse = await self.door.GetEvent(
            frontend_pb2.GetEventRequest(request_id=request_id),
            metadata=self.metadata,
            wait_for_ready=True,
            timeout=10,
        )
        return answer

    async def ended(self, request_id: bytes, state: str, within_seconds: float = 10.0) -> frontend_pb2.GetEventResponse:
        """Wait until it is in this state."""

        seen: list[frontend_pb2.GetEventResponse] = []

        async def look() -> bool:
            try:
                found = await self.event(request_id)
            except grpc.aio.AioRpcError as e:
                if e.code() is grpc.StatusCode.UNAVAILABLE:
                    return False
                raise
            seen[:] = [found]
            assert found.state == state or found.state not in ("succeeded", "failed", "dead"), found
            return found.state == state

        await until(look, within_seconds, f"{request_id.hex()} {state}")
        return seen[0]

    def runs(self, name: str, request_id: bytes | None = None) -> list[runtime_pb2.Invocation]:
        """Invocations that the host saw."""
        return [i for i in self.seen[name] if request_id is None or i.request_id == request_id]

    def _behave(self, invocation: runtime_pb2.Invocation) -> Outcome | None:
        self.seen[invocation.function_name].append(invocation)
        return self.behaviours[invocation.function_name](invocation)

    def door_of(self, node_id: str) -> Any:
        """The inner door of a frontend."""
        return frontend_pb2_grpc.FrontendServiceStub(self._dial(node_id).channel)

    def queue_of(self, node_id: str) -> Any:
        """A queue node."""
        return queue_pb2_grpc.QueueServiceStub(self._dial(node_id).channel)

    def _dial(self, node_id: str) -> Peer:
        peer = Peer.dial(f"unix:{self.processes.run_dir}/{node_id}.sock", self.processes.token)
        self._peers.append(peer)
        return peer

    async def _upload(self) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("app.py", "def handler(event, context):\n    pass\n")

        async def parts() -> AsyncIterator[control_pb2.UploadPackageRequest]:
            yield control_pb2.UploadPackageRequest(chunk=buffer.getvalue())

        answer = await self.control.UploadPackage(parts(), metadata=self.metadata)
        sha: bytes = answer.code_sha256
        return sha
