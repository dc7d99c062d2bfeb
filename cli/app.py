"""The `evenflow` command: what it can do, and how it fails."""

import os
import sys
from typing import NoReturn

import grpc
import typer

from cli.commands import (
    certs,
    cost,
    delete,
    deploy,
    doctor,
    events,
    functions,
    invoke,
    load,
    logs,
    plan,
    shard_moves,
    shard_tools,
    shards,
    simulate,
    tenants,
    top,
    trace,
    up,
    version,
    webhooks,
)
from cli.commands.dead_letters import dlq
from cli.failures import CliError, describe_refusal, from_rpc

# gRPC's own chatter is for its developers; failures reach the user as typed errors.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

app = typer.Typer(
    name="evenflow",
    help="The asynchronous half of AWS Lambda, open and self-hosted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
app.command()(up.up)
app.command()(deploy.deploy)
app.command()(delete.delete)
app.command()(invoke.invoke)
app.command()(events.event)
app.command()(events.events)
app.command()(functions.functions)
shards.group.command("move")(shard_moves.move)
shards.group.command("drain")(shard_moves.drain)
shard_tools.add_to(shards.group)
app.add_typer(shards.group, name="shards")
app.command()(logs.logs)
app.command()(trace.trace)
app.add_typer(dlq, name="dlq")
app.add_typer(tenants.tenants, name="tenants")
app.add_typer(tenants.keys, name="keys")
app.command()(webhooks.webhooks)
app.add_typer(simulate.group, name="simulate")
app.command()(top.top)
app.command()(load.load)
app.command()(plan.plan)
app.command()(cost.cost)
app.command()(up.settings)
app.command()(certs.certs)
app.command()(doctor.doctor)
app.command()(version.version)


def main() -> NoReturn:
    """Run one command; every failure is one line on stderr and an exit code."""
    try:
        app()
    except CliError as e:
        _fail(e.message, e.exit_code)
    except grpc.RpcError as e:
        _fail(describe_refusal(from_rpc(e)), 1)
    except BrokenPipeError:
        # The reader (head, less) has enough.
        sys.stderr.close()
        os._exit(0)
    sys.exit(0)


def _fail(message: str, exit_code: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(exit_code)
