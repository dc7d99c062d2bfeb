"""Doors for what others post: /_evenflow/s3/TENANT and /_evenflow/sns/FUNCTION, each with a token of its own.

The token stands in the address (?token=...) or in the header Authorization: Bearer TOKEN. `evenflow webhooks` prints
addresses with tokens. Requests are answered once everything that they make is durable; repeats make nothing twice.
"""

import json
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

from services.frontend import http_answers
from services.frontend.callers import Callers
from services.frontend.http_protocol import HttpConnection, HttpRequest
from services.frontend.http_replies import Replies
from services.frontend.submissions import Submissions, draining
from services.frontend.targets import Configuration
from services.frontend.webhook_events import WebhookEvents
from services.frontend.webhook_fetches import WebhookFetches
from services.frontend.webhook_s3 import S3Webhook
from services.frontend.webhook_sns import SnsWebhook
from services.policy.accounts import DEFAULT_TENANT
from services.policy.arns import parse_reference
from services.policy.validation import MAX_ASYNC_PAYLOAD_BYTES
from services.shared.errors import EvenflowError, Reason, invalid
from services.shared.webhook_tokens import S3, SNS, is_webhook_token

PREFIX = b"/_evenflow/"
S3_PREFIX, SNS_PREFIX = PREFIX + b"s3/", PREFIX + b"sns/"
MAX_TOKEN_CHARACTERS = 128
# SNS's messages have 256 KiB at most; the rest is room for the envelope and for escapes.
MAX_SIGNED_BYTES = 524_288
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class _Address:
    """What a URL and its token say. `name`: the tenant of S3's, the function of SNS's."""

    kind: str
    name: str
    tenant_id: str
    has_token: bool


class Webhooks:
    """Answers the requests of its paths."""

    def __init__(
        self,
        configuration: Configuration,
        submissions: Submissions,
        callers: Callers,
        replies: Replies,
        *,
        fleet_token: str,
        endpoint_url: str,
    ) -> None:
        """`endpoint_url`: setting aws.endpoint_url."""
        events = WebhookEvents(submissions, callers)
        self._fetches = WebhookFetches(endpoint_url)
        self._s3 = S3Webhook(configuration, events)
        self._sns = SnsWebhook(configuration, events, self._fetches, is_at_aws=not endpoint_url)
        self._replies = replies
        self._fleet_token = fleet_token

    def is_named(self, request: HttpRequest) -> bool:
        """Whether the request is for one of these doors."""
        return request.url.startswith((S3_PREFIX, SNS_PREFIX))

    def body_limit(self, request: HttpRequest) -> int:
        """The largest body that is kept: nothing of who lacks the token, but what SNS may sign instead."""
        try:
            address = self._address_of(request)
        except EvenflowError:
            return 0
        if address.has_token:
            return MAX_ASYNC_PAYLOAD_BYTES
        return MAX_SIGNED_BYTES if address.kind == SNS else 0

    async def answer(self, connection: HttpConnection, request: HttpRequest) -> None:
        """Answer, once what the request makes is durable: 200, or the refusal."""
        replies = self._replies
        text = replies.new_id()
        try:
            if replies.is_draining:
                raise draining()
            body = json.dumps(await self._take(request)).encode()
            connection.answer(request, http_answers.head(200, text, replies.now(), len(body)), body)
        except EvenflowError as e:
            replies.refuse(connection, request, e, text)
        except Exception:
            replies.fail(connection, request, "a webhook", text)

    def close(self) -> None:
        """Fetch nothing more."""
        self._fetches.close()

    async def _take(self, request: HttpRequest) -> dict[str, int]:
        if request.method != b"POST":
            raise EvenflowError(Reason.ERROR_REASON_NOT_IMPLEMENTED, "webhooks take POST only")
        address = self._address_of(request)
        if address.kind == S3 and not address.has_token:
            raise EvenflowError(
                Reason.ERROR_REASON_ACCESS_DENIED,
                "the token is missing or not this tenant's: `evenflow webhooks` prints the address with it",
            )
        if request.is_too_large:
            raise EvenflowError(
                Reason.ERROR_REASON_REQUEST_TOO_LARGE, f"this webhook takes at most {request.limit_bytes:,} bytes"
            )
        if address.kind == S3:
            return await self._s3.take(address.tenant_id, request.body, request.arrived_ms)
        try:
            function = parse_reference(address.name)
        except ValueError as e:
            raise invalid(str(e), field="functionName") from None
        subscription_arn = request.headers.get(b"x-amz-sns-subscription-arn", b"").decode("latin-1")
        return await self._sns.take(
            address.tenant_id,
            function,
            request.body,
            subscription_arn,
            request.arrived_ms,
            has_token=address.has_token,
        )

    def _address_of(self, request: HttpRequest) -> _Address:
        raw_path, _, raw_query = request.url.partition(b"?")
        try:
            query = parse_qs(raw_query.decode("ascii"), max_num_fields=16)
            path = unquote(raw_path.decode("ascii"), errors="strict").split("/", 3)
        except ValueError:
            raise invalid("the address is no URL", field="url") from None
        kind, name = path[2], path[3].rstrip("/")
        tenant_id = name if kind == S3 else query.get("tenant", [DEFAULT_TENANT])[0]
        token = query.get("token", [_bearer(request)])[0]
        has_token = len(token) <= MAX_TOKEN_CHARACTERS and is_webhook_token(token, self._fleet_token, kind, tenant_id)
        return _Address(kind, name, tenant_id, has_token)


def _bearer(request: HttpRequest) -> str:
    given = request.headers.get(b"authorization", b"").decode("latin-1")
    # Some servers send the bare token.
    return given[len(_BEARER) :].strip() if given[: len(_BEARER)].lower() == _BEARER else given
