"""One poller's SQS mappings at moto's server, with a function that the test answers for."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from evenflow.common.v1 import event_pb2
from evenflow.control.v1 import control_pb2, resources_pb2

from services.poller.settings import PollerSettings
from services.poller.sources.event_sources import EventSources
from services.poller.sources.invoker import Call
from services.poller.sources.sqs_sources import SqsSources
from services.shared.clock import SystemClock
from services.shared.config_view import ConfigView
from services.shared.metrics import Metrics
from tests.kit.aws_neighbour import ACCOUNT, REGION, AwsNeighbour
from tests.kit.waiting import until

Invoke = Callable[[Call], Awaitable[event_pb2.Outcome]]
LEASE_MS = 60_000


def succeeded(payload: bytes = b"null") -> event_pb2.Outcome:
    return event_pb2.Outcome(status=event_pb2.OUTCOME_STATUS_SUCCEEDED, response_payload=payload)


def records_of(call: Call) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(call.payload)["Records"]
    return records


def bodies_of(call: Call) -> list[str]:
    return [record["body"] for record in records_of(call)]


class Rig:
    """One poller's mappings, a real queue each, and a function that the test answers for."""

    def __init__(self, neighbour: AwsNeighbour, metrics: Metrics, settings: PollerSettings) -> None:
        self.neighbour = neighbour
        self.sqs = neighbour.client("sqs")
        self.calls: list[Call] = []
        self.answer: Invoke | None = None
        self.view = ConfigView()
        fleet = resources_pb2.Fleet(fleet_id="f" * 32, account_id=ACCOUNT, region=REGION)
        self.view.upsert(resources_pb2.Resource(key="fleet", fleet=fleet))
        self.deploy(timeout_ms=1_000)
        self.kind = SqsSources(
            settings,
            view=lambda: self.view,
            invoker=self,  # type: ignore[arg-type]  # all that is used of it is invoke
            clock=SystemClock(),
            metrics=metrics,
            draw=lambda: 0.5,
        )
        self.sources = EventSources([self.kind], view=lambda: self.view, clock=SystemClock())

    async def invoke(self, call: Call) -> event_pb2.Outcome:
        self.calls.append(call)
        return await self.answer(call) if self.answer is not None else succeeded()

    def deploy(self, timeout_ms: int) -> None:
        version = resources_pb2.FunctionVersion(version="$LATEST", timeout_ms=timeout_ms)
        function = resources_pb2.Function(tenant_id="default", function_name="drain", latest=version)
        self.view.upsert(resources_pb2.Resource(key="function/default/drain", function=function))

    def queue(self, name: str, visibility_seconds: int = 30, **attributes: str) -> str:
        """A new queue; its URL."""
        url = self.sqs.create_queue(
            QueueName=name, Attributes={"VisibilityTimeout": str(visibility_seconds), **attributes}
        )["QueueUrl"]
        assert isinstance(url, str)
        return url

    def map(self, name: str, filters: tuple[str, ...] = (), **more: Any) -> None:
        """Own a mapping of this queue, from now on."""
        sqs = resources_pb2.SqsSource(queue_arn=f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}", **more)
        source = resources_pb2.EventSource(
            source_id=f"map-{name}", tenant_id="default", function_name="drain", sqs=sqs, filter_patterns=filters
        )
        self.view.upsert(resources_pb2.Resource(key=f"source/map-{name}", source=source))
        self.sources.on_lease(control_pb2.SourceLease(source_id=f"map-{name}", epoch=1, lease_ms=LEASE_MS))

    def send(self, url: str, *bodies: str) -> None:
        for start in range(0, len(bodies), 10):
            entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(bodies[start : start + 10])]
            self.sqs.send_message_batch(QueueUrl=url, Entries=entries)

    def left(self, url: str) -> int:
        """Messages that the queue still has, visible or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    async def until_left(self, url: str, count: int, within_seconds: float = 10.0) -> None:
        async def look() -> bool:
            # A message that becomes visible between moto's two counts is in none of them: it is not in both looks.
            return [await asyncio.to_thread(self.left, url) for _ in range(2)] == [count] * 2

        await until(look, within_seconds, f"{count} messages left")

    def counted(self, name: str, outcome: str) -> float:
        telemetry = self.kind._means.run.telemetry
        names = {"source": f"map-{name}", "queue": name, "function": "drain", "tenant": "default"}
        return telemetry._records.value(outcome=outcome, **names)
