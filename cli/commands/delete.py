"""`evenflow delete`: a function, or one version of it, off the fleet."""

from typing import Annotated

import typer
from evenflow.control.v1 import control_pb2

from cli.commands.options import DataOption
from cli.connection import TENANT, FleetConnection
from cli.output import print_line


def delete(
    name: Annotated[str, typer.Argument(metavar="FUNCTION", help="Name of the function.")],
    version: Annotated[
        str, typer.Option(help="Only this published version. Default: all of the function.", show_default=False)
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    tenant: Annotated[str, typer.Option(help="Whose.")] = TENANT,
    data: DataOption = None,
) -> None:
    """Delete a function with its versions, aliases and event sources.

    Events of it that still wait end with FUNCTION_NOT_FOUND; files in buckets stay.
    """
    what = f"version {version} of {name}" if version else name
    with FleetConnection(data) as fleet:
        if not yes:
            typer.confirm(f"Delete {what} for good?", abort=True)
        request = control_pb2.DeleteFunctionRequest(tenant_id=tenant, function_name=name, version=version)
        fleet.ask(fleet.control.DeleteFunction, request)
    print_line(f"deleted {what}")
