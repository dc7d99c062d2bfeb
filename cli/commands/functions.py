"""`evenflow functions`: what is deployed."""

from typing import Any

from evenflow.control.v1 import control_pb2, resources_pb2

from cli.commands.options import DataOption, JsonOption
from cli.connection import TENANT, FleetConnection
from cli.output import clock_time, console, print_json, size_of, table

PAGE_SIZE = 500
MAX_LISTED = 100_000


def functions(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the functions of the fleet."""
    with FleetConnection(data) as fleet:
        found = list_functions(fleet)
    if as_json:
        print_json([_as_dictionary(one) for one in found])
        return
    columns = ("function", "handler", "runtime", "timeout", "memory", "reserved", "code", "destinations", "changed")
    shown = table(*columns, right=("timeout", "memory", "reserved", "code"), fold=("handler", "destinations"))
    for one in found:
        latest = one.latest
        shown.add_row(
            one.function_name,
            latest.handler,
            f"{latest.runtime}, SnapStart" if latest.snap_start else latest.runtime,
            f"{latest.timeout_ms / 1_000:g} s",
            f"{latest.memory_mb} MB",
            str(one.reserved_concurrency) if one.HasField("reserved_concurrency") else "-",
            size_of(latest.code_size_bytes),
            _destinations(one.async_config),
            clock_time(one.modified_at_ms)[:-7],
        )
    console().print(shown if found else "no functions: `evenflow deploy DIR` puts some here")


def list_functions(fleet: FleetConnection) -> list[resources_pb2.Function]:
    """All functions by name."""
    found: list[resources_pb2.Function] = []
    token = ""
    while len(found) < MAX_LISTED:
        request = control_pb2.ListFunctionsRequest(tenant_id=TENANT, page_size=PAGE_SIZE, page_token=token)
        answer = fleet.ask(fleet.control.ListFunctions, request)
        found.extend(answer.functions)
        token = answer.next_page_token
        if not token:
            break
    return found


def _destinations(found: resources_pb2.AsyncConfig) -> str:
    named = (("success", found.on_success_arn), ("failure", found.on_failure_arn))
    return ", ".join(f"{when}: {arn.rpartition(':')[2]}" for when, arn in named if arn) or "-"


def _as_dictionary(one: resources_pb2.Function) -> dict[str, Any]:
    latest, asynchronous = one.latest, one.async_config
    return {
        "function_name": one.function_name,
        "revision": one.revision,
        "handler": latest.handler,
        "runtime": latest.runtime,
        "timeout_ms": latest.timeout_ms,
        "memory_mb": latest.memory_mb,
        "snap_start": latest.snap_start,
        "description": latest.description,
        # Names only: values may be secrets.
        "environment_names": sorted(latest.environment),
        "buckets": [{"bucket": b.bucket, "writable": b.writable} for b in latest.buckets],
        "code_sha256": latest.code_sha256.hex(),
        "code_size_bytes": latest.code_size_bytes,
        "reserved_concurrency": one.reserved_concurrency if one.HasField("reserved_concurrency") else None,
        "maximum_retry_attempts": (
            asynchronous.maximum_retry_attempts if asynchronous.HasField("maximum_retry_attempts") else None
        ),
        "maximum_event_age_seconds": (
            asynchronous.maximum_event_age_seconds if asynchronous.HasField("maximum_event_age_seconds") else None
        ),
        "on_success_arn": asynchronous.on_success_arn or None,
        "on_failure_arn": asynchronous.on_failure_arn or None,
        "created_at_ms": one.created_at_ms,
        "modified_at_ms": one.modified_at_ms,
    }
