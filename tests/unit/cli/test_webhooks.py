"""Addresses of webhooks as the command prints them."""

from urllib.parse import parse_qs, urlsplit

from cli.commands.webhooks import addresses
from services.shared.webhook_tokens import KINDS, is_webhook_token

FLEET_TOKEN = "0" * 64


def test_each_address_has_the_token_of_its_kind_and_tenant() -> None:
    """Right for that kind and tenant alone; SNS's names the tenant where it is not the default one."""
    for tenant_id in ("default", "acme"):
        found = addresses("http://127.0.0.1:9000", FLEET_TOKEN, tenant_id)
        assert urlsplit(found["s3"]).path == f"/_evenflow/s3/{tenant_id}"
        assert urlsplit(found["sns"]).path == "/_evenflow/sns/FUNCTION"
        for kind, url in found.items():
            query = parse_qs(urlsplit(url).query)
            right = [
                (other_kind, other)
                for other_kind in KINDS
                for other in ("default", "acme")
                if is_webhook_token(query["token"][0], FLEET_TOKEN, other_kind, other)
            ]
            assert right == [(kind, tenant_id)]
            assert query.get("tenant", ["default"])[0] == (tenant_id if kind == "sns" else "default")
