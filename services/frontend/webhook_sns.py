"""The door for HTTP deliveries of SNS: a notification becomes Lambda's SNS event, a subscription is confirmed."""

import base64
import binascii
import hashlib
import logging

from evenflow.control.v1 import resources_pb2

from services.frontend.targets import Configuration
from services.frontend.webhook_events import WebhookEvent, WebhookEvents
from services.frontend.webhook_fetches import WebhookFetches
from services.policy.arns import LATEST, FunctionReference
from services.policy.patterns import matches
from services.policy.permissions import INVOKE
from services.policy.sns_messages import (
    CONFIRMATION,
    NOTIFICATION,
    SnsMessage,
    is_aws_certificate,
    lambda_event,
    read_message,
)
from services.shared.errors import EvenflowError, Reason

SOURCE = "sns"
SNS_PRINCIPAL = "sns.amazonaws.com"
_DIGESTS = {"1": "sha1", "2": "sha256"}
log = logging.getLogger(__name__)


class SnsWebhook:
    """Takes a message that carries the tenant's token, or one that AWS signed for a topic that the function allows.

    A signature by AWS alone proves that some topic of somebody sent it: which topics may, the function's policy says
    (AddPermission with principal sns.amazonaws.com and the topic as source ARN). At AWS itself the signature has to be
    right in any case; servers that stand for AWS name certificates that they do not always serve.
    """

    def __init__(
        self, configuration: Configuration, events: WebhookEvents, fetches: WebhookFetches, *, is_at_aws: bool
    ) -> None:
        """`is_at_aws`: no other server stands for AWS."""
        self._is_at_aws = is_at_aws
        self._configuration = configuration
        self._events = events
        self._fetches = fetches

    async def take(
        self,
        tenant_id: str,
        function: FunctionReference,
        body: bytes,
        subscription_arn: str,
        arrived_ms: float,
        *,
        has_token: bool,
    ) -> dict[str, int]:
        """What became of a posted message, once that is durable. EvenflowError; retryable ones: post it again."""
        try:
            message = read_message(body)
        except ValueError as e:
            raise EvenflowError(Reason.ERROR_REASON_INVALID_REQUEST_CONTENT, str(e)) from None
        await self._check(tenant_id, function, message, has_token=has_token)
        if message.kind == CONFIRMATION:
            await self._fetches.confirm(message.get("SubscribeURL"))
            log.info("the subscription of %s to %s is confirmed", function.function_name, message.get("TopicArn"))
        if message.kind != NOTIFICATION:
            return {"accepted": 0, "refused": 0}
        parts = (function.function_name, function.qualifier, message.get("TopicArn"), message.get("MessageId"))
        event = WebhookEvent(
            function.function_name,
            "" if function.qualifier == LATEST else function.qualifier,
            lambda_event(message, subscription_arn),
            hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest(),
        )
        accepted, refusals = await self._events.accept(tenant_id, SOURCE, [event], arrived_ms)
        if refusals:
            # To SNS a refusal is one, so that its own dead-letter queue gets the message.
            raise refusals[0]
        return {"accepted": accepted, "refused": 0}

    async def _check(
        self, tenant_id: str, function: FunctionReference, message: SnsMessage, *, has_token: bool
    ) -> None:
        is_aws = is_aws_certificate(message.get("SigningCertURL"))
        known = self._configuration.view.functions.get((tenant_id, function.function_name))
        # Before anything is fetched: a stranger's post costs nothing.
        if not has_token and not (is_aws and known is not None and _allows(known, function, message.get("TopicArn"))):
            raise EvenflowError(
                Reason.ERROR_REASON_ACCESS_DENIED,
                "the address lacks its token (`evenflow webhooks` prints it), and the function has no permission for "
                f"{SNS_PRINCIPAL} and this topic",
            )
        if has_token and not (is_aws and self._is_at_aws):
            return
        if not await self._is_signed(message):
            raise EvenflowError(Reason.ERROR_REASON_INVALID_SIGNATURE, "the message's signature is not right")

    async def _is_signed(self, message: SnsMessage) -> bool:
        digest = _DIGESTS.get(message.get("SignatureVersion"))
        try:
            signature = base64.b64decode(message.get("Signature"), validate=True)
        except (binascii.Error, ValueError):
            return False
        if digest is None:
            return False
        key = await self._fetches.key(message.get("SigningCertURL"))
        return key.verifies(signature, message.string_to_sign, digest)


def _allows(known: resources_pb2.Function, function: FunctionReference, topic_arn: str) -> bool:
    qualifier = "" if function.qualifier == LATEST else function.qualifier
    return any(_opens(statement, qualifier, topic_arn) for statement in known.permissions)


def _opens(statement: resources_pb2.PermissionStatement, qualifier: str, topic_arn: str) -> bool:
    # Conditions that no topic can meet keep the statement shut, as for callers (services.policy.permissions).
    if statement.principal_org_id or statement.event_source_token:
        return False
    if statement.source_account and statement.source_account != _account_of(topic_arn):
        return False
    return (
        statement.principal == SNS_PRINCIPAL
        and bool(statement.source_arn)
        and matches(statement.source_arn, topic_arn)
        and matches(statement.action, INVOKE)
        and ("" if statement.qualifier == LATEST else statement.qualifier) == qualifier
    )


def _account_of(topic_arn: str) -> str:
    """arn:aws:sns:REGION:ACCOUNT:NAME; what is no ARN of a topic has none."""
    parts = topic_arn.split(":")
    return parts[4] if len(parts) == 6 else ""
