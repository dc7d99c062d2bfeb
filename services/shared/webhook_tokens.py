"""The tokens that webhooks carry: derived from the fleet's token, one a tenant and kind, so that none is stored.

Who has one can make events for that tenant by that kind of webhook, and nothing else. They change with the fleet's
token.
"""

import base64
import hmac

S3, SNS = "s3", "sns"
KINDS = (S3, SNS)
_LABEL = b"evenflow/webhooks/1"


def webhook_token(fleet_token: str, kind: str, tenant_id: str) -> str:
    """The token of a tenant's webhooks of one kind: 32 characters of a URL's alphabet."""
    secret = hmac.digest(fleet_token.encode(), _LABEL, "sha256")
    digest = hmac.digest(secret, f"{kind}\0{tenant_id}".encode(), "sha256")
    return base64.urlsafe_b64encode(digest[:24]).decode()


def is_webhook_token(given: str, fleet_token: str, kind: str, tenant_id: str) -> bool:
    """Whether a caller brought the right one; compared in constant time."""
    return hmac.compare_digest(given.encode(), webhook_token(fleet_token, kind, tenant_id).encode())
