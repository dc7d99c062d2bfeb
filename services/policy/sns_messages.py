"""What SNS posts to an HTTP subscription: its messages, what their signature covers, and Lambda's event. Pure.

After the SNS developer guide, "Verifying the signatures of Amazon SNS messages" and "Parsing message formats".
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

NOTIFICATION = "Notification"
CONFIRMATION = "SubscriptionConfirmation"
UNSUBSCRIBED = "UnsubscribeConfirmation"
_TYPES = (NOTIFICATION, CONFIRMATION, UNSUBSCRIBED)
# In this order, names and values a line each; Subject only where there is one.
_SIGNED = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    CONFIRMATION: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    UNSUBSCRIBED: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_TEXTS = (
    "MessageId",
    "TopicArn",
    "Message",
    "Timestamp",
    "SignatureVersion",
    "Signature",
    "SigningCertURL",
    "Subject",
    "SubscribeURL",
    "UnsubscribeURL",
    "Token",
)
_AWS_HOST = re.compile(r"sns\.[a-z0-9-]{1,32}\.amazonaws\.com(\.cn)?")
# No blank, control character or backslash, which readers of URLs treat differently.
_PLAIN_URL = re.compile(r"[!-\[\]-~]{1,2048}")
_NOWHERE = SplitResult("", "", "", "", "")
_CERTIFICATE_PATH = re.compile(r"/SimpleNotificationService-[A-Za-z0-9]{1,128}\.pem")


@dataclass(frozen=True, slots=True)
class SnsMessage:
    """One message. `fields`: its texts by SNS's names, as far as it has them."""

    kind: str
    fields: Mapping[str, str]
    attributes: Mapping[str, Any]

    def get(self, name: str) -> str:
        """A field; empty: it has none."""
        return self.fields.get(name, "")

    @property
    def string_to_sign(self) -> bytes:
        """What the signature covers."""
        names = [name for name in _SIGNED[self.kind] if name == "Type" or name in self.fields]
        return "".join(f"{name}\n{self.kind if name == 'Type' else self.fields[name]}\n" for name in names).encode()


def read_message(body: bytes) -> SnsMessage:
    """A posted message. ValueError with a sentence."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the body is no JSON document; raw message delivery is not offered: turn it off") from None
    if not isinstance(document, dict) or document.get("Type") not in _TYPES:
        raise ValueError(f"the body is no message of SNS: Type must be one of {', '.join(_TYPES)}")
    fields = {}
    for name in _TEXTS:
        found = document.get(name)
        if found is not None and not isinstance(found, str):
            raise ValueError(f"{name} must be a text")
        if found is not None:
            fields[name] = found
    for name in ("MessageId", "TopicArn", "Message"):
        if name not in fields:
            raise ValueError(f"{name} is missing")
    attributes = document.get("MessageAttributes") or {}
    if not isinstance(attributes, dict):
        raise ValueError("MessageAttributes must be an object")
    return SnsMessage(document["Type"], fields, attributes)


def lambda_event(message: SnsMessage, subscription_arn: str) -> bytes:
    """Lambda's event of a notification, as JSON."""
    sns = {
        "Type": message.kind,
        "MessageId": message.get("MessageId"),
        "TopicArn": message.get("TopicArn"),
        "Subject": message.fields.get("Subject"),
        "Message": message.get("Message"),
        "Timestamp": message.get("Timestamp"),
        "SignatureVersion": message.get("SignatureVersion"),
        "Signature": message.get("Signature"),
        # Lambda's names differ from those of the post in their last letters.
        "SigningCertUrl": message.get("SigningCertURL"),
        "UnsubscribeUrl": message.get("UnsubscribeURL"),
        "MessageAttributes": message.attributes,
    }
    record = {
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": subscription_arn or _subscription_of(message.get("UnsubscribeURL")),
        "Sns": sns,
    }
    return json.dumps({"Records": [record]}, separators=(",", ":")).encode()


def is_aws_certificate(url: str) -> bool:
    """Whether this is where AWS keeps certificates of SNS: https, a host of SNS, such a path, and nothing else."""
    parts = _split(url)
    return _is_at_aws(parts) and not parts.query and bool(_CERTIFICATE_PATH.fullmatch(parts.path))


def may_visit(url: str, endpoint_url: str) -> bool:
    """Whether a URL of a message may be visited: at AWS's SNS over https, or at the endpoint that stands for AWS."""
    parts, own = _split(url), _split(endpoint_url)
    return _is_at_aws(parts) or (bool(own.netloc) and (parts.scheme, parts.netloc) == (own.scheme, own.netloc))


def _is_at_aws(parts: SplitResult) -> bool:
    # The whole of it, so that neither a user name nor a port stands there.
    return parts.scheme == "https" and bool(_AWS_HOST.fullmatch(parts.netloc))


def _split(url: str) -> SplitResult:
    """The parts of a URL that every reader splits alike; all empty for one that is not."""
    try:
        return urlsplit(url) if _PLAIN_URL.fullmatch(url) else _NOWHERE
    except ValueError:
        return _NOWHERE


def _subscription_of(unsubscribe_url: str) -> str:
    try:
        found = parse_qs(_split(unsubscribe_url).query, max_num_fields=16)
    except ValueError:
        return ""
    return found.get("SubscriptionArn", [""])[0]
