"""The door for notifications of S3-compatible servers: one event a record and function that has the bucket."""

import logging

from evenflow.control.v1 import resources_pb2

from services.frontend.targets import Configuration
from services.frontend.webhook_events import WebhookEvent, WebhookEvents
from services.policy.s3_events import KeyFilter
from services.policy.s3_notifications import Notice, read_document, wants
from services.shared.errors import EvenflowError, Reason

SOURCE = "s3"
log = logging.getLogger(__name__)


class S3Webhook:
    """Knows which sources have which remote bucket."""

    def __init__(self, configuration: Configuration, events: WebhookEvents) -> None:
        self._configuration = configuration
        self._events = events
        self._by_bucket: dict[tuple[str, str], list[resources_pb2.EventSource]] = {}
        self._revision = -1

    async def take(self, tenant_id: str, body: bytes, arrived_ms: float) -> dict[str, int]:
        """What became of a posted document, once that is durable: accepted, refused and unwanted.

        EvenflowError INVALID_REQUEST_CONTENT: it is no such document; retryable ones: post it again.
        """
        try:
            notices = read_document(body)
        except ValueError as e:
            raise EvenflowError(Reason.ERROR_REASON_INVALID_REQUEST_CONTENT, str(e)) from None
        events: list[WebhookEvent] = []
        unwanted = 0
        for notice in notices:
            sources = self._sources_of(tenant_id, notice)
            unwanted += not sources
            events.extend(
                WebhookEvent(
                    source.function_name, source.qualifier, notice.payload, notice.client_token(source.source_id)
                )
                for source in sources
            )
        accepted, refusals = await self._events.accept(tenant_id, SOURCE, events, arrived_ms)
        if refusals:
            log.warning(
                "%d events of remote buckets of tenant %s were refused for good: %s",
                len(refusals),
                tenant_id,
                refusals[0].message,
            )
        return {"accepted": accepted, "refused": len(refusals), "unwanted": unwanted}

    def _sources_of(self, tenant_id: str, notice: Notice) -> list[resources_pb2.EventSource]:
        view = self._configuration.view
        if view.revision != self._revision:
            self._revision = view.revision
            self._by_bucket = {}
            for source in view.sources.values():
                if source.HasField("bucket") and source.bucket.is_remote and not source.is_disabled:
                    self._by_bucket.setdefault((source.tenant_id, source.bucket.bucket), []).append(source)
        return [
            source
            for source in self._by_bucket.get((tenant_id, notice.bucket), ())
            if wants(source.bucket.events, notice.event_name)
            and KeyFilter(source.bucket.key_prefix, source.bucket.key_suffix).passes(notice.key)
        ]
