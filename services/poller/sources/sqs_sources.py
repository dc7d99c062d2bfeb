"""Runs SQS mappings: the pools of calls, and the bounds that all of them share."""

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from evenflow.control.v1 import resources_pb2

from services.poller.settings import PollerSettings
from services.poller.sources.invoker import Invoker
from services.poller.sources.running import Ownership
from services.poller.sources.sqs_batch import Room
from services.poller.sources.sqs_queue import SqsQueue
from services.poller.sources.sqs_run import RunMeans
from services.poller.sources.sqs_source import SqsMeans, SqsSource
from services.poller.sources.telemetry import SqsTelemetry
from services.shared.aws import AwsCalls
from services.shared.clock import Clock
from services.shared.config_view import ConfigView
from services.shared.metrics import Metrics

# Beyond the wait that was asked for, before a receive counts as lost.
READ_MARGIN_SECONDS = 10.0
# Large messages are held against a mapping's filter here; a mapping has at most as many there as it receives at once.
FILTERING_THREADS = 2


class SqsSources:
    """See SourceKind. Make it on the running loop."""

    name = "sqs"

    def __init__(
        self,
        settings: PollerSettings,
        *,
        view: Callable[[], ConfigView],
        invoker: Invoker,
        clock: Clock,
        metrics: Metrics,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._view = view
        self._begun: dict[SqsSource, None] = {}
        self._polls = AwsCalls(
            settings,
            "sqs-receive",
            threads=settings.source_sqs_polls,
            read_seconds=settings.source_sqs_wait_seconds + READ_MARGIN_SECONDS,
        )
        self._calls = AwsCalls(settings, "sqs-settle")
        self._filtering_threads = ThreadPoolExecutor(FILTERING_THREADS, "sqs-filters")
        self._means = SqsMeans(
            settings=settings,
            run=RunMeans(
                invoke=invoker.invoke,
                clock=clock,
                draw=draw,
                telemetry=SqsTelemetry(metrics, self._running),
                throttle_base_ms=settings.retry_throttle_base_seconds * 1_000,
                throttle_cap_ms=settings.retry_throttle_cap_seconds * 1_000,
            ),
            room=Room(settings.source_sqs_bytes),
            timeout_ms=self._timeout_ms,
            allows_recursion=self._allows_recursion,
            wait_seconds=self._wait_seconds,
            filtering_threads=self._filtering_threads,
        )

    @property
    def unsettled(self) -> int:
        """Mappings that end and still have batches."""
        return sum(1 for source in self._begun if not source.is_over)

    def wants(self, source: resources_pb2.EventSource) -> bool:
        """See SourceKind."""
        return source.HasField("sqs")

    def begin(self, ownership: Ownership) -> SqsSource:
        """See SourceKind."""
        queue = SqsQueue(ownership.source.sqs.queue_arn, self._settings.aws_endpoint_url, self._polls, self._calls)
        source_id = ownership.source.source_id
        before = [one for one in self._begun if one.source.source_id == source_id and not one.is_over]
        begun = SqsSource(self._means, queue, ownership, before)
        self._begun[begun] = None
        return begun

    def tick(self, kept_ids: Callable[[], set[str]], revision: int, *, is_quiet: bool) -> None:
        """See SourceKind."""
        for source in [s for s in self._begun if s.is_over]:
            del self._begun[source]

    def halt(self) -> None:
        """See SourceKind."""

    async def stop(self) -> None:
        """See SourceKind: receives under way are waited for, as long as they may take."""
        self._filtering_threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.gather(self._polls.close(), self._calls.close())

    def _wait_seconds(self) -> int:
        """A receive holds a thread: with more mappings than threads each waits for a part of the time only."""
        share = self._settings.source_sqs_polls / max(1, len(self._begun))
        return int(self._settings.source_sqs_wait_seconds * min(1.0, share))

    def _timeout_ms(self, tenant_id: str, function_name: str, qualifier: str) -> int | None:
        view = self._view().function_view(tenant_id, function_name)
        version = view.choose(qualifier, 0.0) if view is not None else None
        return version.timeout_ms if version is not None else None

    def _allows_recursion(self, tenant_id: str, function_name: str) -> bool:
        function = self._view().functions.get((tenant_id, function_name))
        return function is not None and function.allows_recursion

    def _running(self) -> list[tuple[dict[str, str], int]]:
        # Called from another thread: a copy of the table, in one step.
        return [(source.names, source.running) for source in tuple(self._begun)]
