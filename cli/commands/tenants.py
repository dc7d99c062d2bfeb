"""`evenflow tenants` and `evenflow keys`: whose functions and events are kept apart, and who may call for them."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from evenflow.control.v1 import control_pb2, resources_pb2

from cli.commands.options import DataOption, JsonOption
from cli.connection import TENANT, FleetConnection
from cli.failures import CliError
from cli.output import clock_time, console, print_json, print_line, table
from services.policy.accounts import account_of

PAGE_SIZE = 500

tenants = typer.Typer(help="Tenants of the fleet: create, list, delete.", no_args_is_help=True)
keys = typer.Typer(help="Access keys that requests are signed with: create, list, delete.", no_args_is_help=True)
TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="1 to 64 characters of [a-z0-9-].")]


NeighbourOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ARN", help="AWS resources that it may name: an ARN, * for any text; may be given often. Default: none."
    ),
]


@tenants.command("create")
def create_tenant(tenant: TenantArgument, neighbour: NeighbourOption = None, data: DataOption = None) -> None:
    """Make a tenant, with nothing in it."""
    with FleetConnection(data) as fleet:
        if any(one.tenant_id == tenant for one in list_all(fleet)):
            raise CliError(f"tenant {tenant!r} is there already")
        made = resources_pb2.Tenant(tenant_id=tenant, neighbours=neighbour)
        fleet.ask(fleet.control.PutTenant, control_pb2.PutTenantRequest(tenant=made))
        account = account_of(tenant, fleet.fleet_identity().account_id)
    print_line(
        f"created tenant {tenant}, account {account}: `evenflow keys create --tenant {tenant}` makes a key of it"
    )


@tenants.command("neighbours")
def set_neighbours(
    tenant: TenantArgument,
    arns: Annotated[
        list[str] | None, typer.Argument(metavar="[ARN]...", help="All of them, * for any text; none: take all away.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Say which AWS resources a tenant may name; sources and destinations that it has already stay."""
    with FleetConnection(data) as fleet:
        found = next((one for one in list_all(fleet) if one.tenant_id == tenant), None)
        if found is None:
            raise CliError(f"there is no tenant {tenant!r}: `evenflow tenants list` shows them")
        del found.neighbours[:]
        found.neighbours.extend(arns or ())
        # Keys come without their secrets here, and keep them.
        fleet.ask(fleet.control.PutTenant, control_pb2.PutTenantRequest(tenant=found))
    print_line(f"tenant {tenant} may name {', '.join(found.neighbours) or 'no AWS resources'}")


@tenants.command("list")
def list_tenants(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List tenants by name, with the account that stands for each in ARNs."""
    with FleetConnection(data) as fleet:
        found = list(list_all(fleet))
        fleet_account = fleet.fleet_identity().account_id
    rows: list[dict[str, Any]] = [
        {
            "tenant": one.tenant_id,
            "account": account_of(one.tenant_id, fleet_account),
            "keys": len(one.access_keys),
            "quota_millionths": one.quota_millionths,
            "neighbours": list(one.neighbours),
        }
        for one in found
    ]
    if as_json:
        print_json(rows)
        return
    shown = table("tenant", "account", "keys", "share of traffic", right=("keys", "share of traffic"))
    for row in rows:
        share = f"{row['quota_millionths'] / 10_000:g} %" if row["quota_millionths"] else "-"
        shown.add_row(row["tenant"], row["account"], str(row["keys"]), share)
    console().print(shown)


@tenants.command("delete")
def delete_tenant(tenant: TenantArgument, data: DataOption = None) -> None:
    """Delete a tenant that has no functions, layers or sources; its keys end with it."""
    with FleetConnection(data) as fleet:
        fleet.ask(fleet.control.DeleteTenant, control_pb2.DeleteTenantRequest(tenant_id=tenant))
    print_line(f"deleted tenant {tenant}")


@keys.command("create")
def create_key(
    tenant: Annotated[str, typer.Option(help="Whose.")] = TENANT, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Make an access key. Its secret is shown this once and never again."""
    with FleetConnection(data) as fleet:
        answer = fleet.ask(fleet.control.CreateAccessKey, control_pb2.CreateAccessKeyRequest(tenant_id=tenant))
        identity = fleet.fleet_identity()
    key = answer.access_key
    if as_json:
        print_json(
            {
                "tenant": tenant,
                "account": account_of(tenant, identity.account_id),
                "access_key_id": key.access_key_id,
                "secret_access_key": key.secret,
                "created_at_ms": key.created_at_ms,
            }
        )
        return
    # Lines for a shell: `eval "$(evenflow keys create)"` is all that the AWS CLI needs.
    print_line(f"# A key of tenant {tenant}. The secret is not shown again.")
    print_line(f"export AWS_ACCESS_KEY_ID={key.access_key_id}")
    print_line(f"export AWS_SECRET_ACCESS_KEY={key.secret}")
    print_line(f"export AWS_DEFAULT_REGION={identity.region}")


@keys.command("list")
def list_keys(
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant's. Default: all tenants'.", show_default=False)
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List access keys with the tenant and account of each; never a secret."""
    with FleetConnection(data) as fleet:
        found = [one for one in list_all(fleet) if tenant in (None, one.tenant_id)]
        fleet_account = fleet.fleet_identity().account_id
    if tenant is not None and not found:
        raise CliError(f"there is no tenant {tenant!r}: `evenflow tenants list` shows them")
    rows: list[dict[str, Any]] = [
        {
            "access_key_id": key.access_key_id,
            "tenant": one.tenant_id,
            "account": account_of(one.tenant_id, fleet_account),
            "created_at_ms": key.created_at_ms,
        }
        for one in found
        for key in one.access_keys
    ]
    if as_json:
        print_json(rows)
        return
    shown = table("access key", "tenant", "account", "created")
    for row in rows:
        shown.add_row(row["access_key_id"], row["tenant"], row["account"], clock_time(row["created_at_ms"])[:-4])
    console().print(shown if rows else "no keys: `evenflow keys create` makes one")


@keys.command("delete")
def delete_key(
    access_key_id: Annotated[str, typer.Argument(metavar="KEY", help="Access key id.")],
    tenant: Annotated[str | None, typer.Option(help="Whose. Default: whoever has it.", show_default=False)] = None,
    data: DataOption = None,
) -> None:
    """Revoke an access key: no door takes it any more."""
    with FleetConnection(data) as fleet:
        owner = tenant or _owner_of(fleet, access_key_id)
        request = control_pb2.DeleteAccessKeyRequest(tenant_id=owner, access_key_id=access_key_id)
        fleet.ask(fleet.control.DeleteAccessKey, request)
    print_line(f"deleted key {access_key_id} of tenant {owner}")


def list_all(fleet: FleetConnection) -> Iterator[resources_pb2.Tenant]:
    """Every tenant by name, without secrets."""
    token = ""
    while True:
        request = control_pb2.ListTenantsRequest(page_size=PAGE_SIZE, page_token=token)
        answer = fleet.ask(fleet.control.ListTenants, request)
        yield from answer.tenants
        token = answer.next_page_token
        if not token:
            return


def _owner_of(fleet: FleetConnection, access_key_id: str) -> str:
    for one in list_all(fleet):
        if any(key.access_key_id == access_key_id for key in one.access_keys):
            return one.tenant_id
    raise CliError(f"there is no access key {access_key_id!r}: `evenflow keys list` shows them")
