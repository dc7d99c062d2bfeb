"""`evenflow webhooks`: the addresses that S3-compatible servers and SNS are to post to, tokens included."""

from typing import Annotated

import typer

from cli.commands.options import DataOption, JsonOption
from cli.connection import TENANT, FleetConnection
from cli.output import print_json, print_line
from services.shared.webhook_tokens import S3, SNS, webhook_token

TenantOption = Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Whose webhooks.")]


def webhooks(tenant: TenantOption = TENANT, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Print where S3-compatible servers and SNS post to. Who has an address can make events: keep it as a password."""
    with FleetConnection(data) as fleet:
        found = addresses(fleet.file.http, fleet.token, tenant)
    if as_json:
        print_json(found)
        return
    print_line(f"S3-compatible servers  {found[S3]}")
    print_line(f"SNS, for each function {found[SNS]}")


def addresses(http_url: str, fleet_token: str, tenant_id: str) -> dict[str, str]:
    """By kind; that of SNS has FUNCTION where the function's name goes."""
    s3, sns = (webhook_token(fleet_token, kind, tenant_id) for kind in (S3, SNS))
    of_tenant = f"&tenant={tenant_id}" if tenant_id != TENANT else ""
    return {
        S3: f"{http_url}/_evenflow/s3/{tenant_id}?token={s3}",
        SNS: f"{http_url}/_evenflow/sns/FUNCTION?token={sns}{of_tenant}",
    }
