"""Puts what load runs invoke on a fleet: as a folder for `evenflow deploy`, or for many tenants over control."""

import hashlib
import io
import math
import secrets
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
from evenflow.control.v1 import control_pb2, control_pb2_grpc, resources_pb2

from loadtest.arrivals.tenants import MAX_TENANTS
from loadtest.workloads import handler
from loadtest.workloads.handler import BUCKET
from loadtest.workloads.work import Work
from services.policy.accounts import DEFAULT_TENANT, account_of
from services.policy.arns import function_arn
from services.policy.function_rules import MAX_MEMORY_MB, MAX_TIMEOUT_MS
from services.shared.channels import Peer

FUNCTION = "load"
DESTINATION = "load-destination"
ON = ("", "success", "failure")
MAX_RETRIES = 2
# Each is a tenant with a key and a function of its own in control's state.
MAX_DEPLOYED_TENANTS = min(10_000, MAX_TENANTS)
CALL_SECONDS = 20.0
_PACKAGE_TIME = (2020, 1, 1, 0, 0, 0)
_SECRET_BYTES = 20
_NODE_ID = "load"
_DESTINATION_MODULE = "destination"
# What a function's timeout and memory leave the handler beyond what its event asks of it; CPU time takes as many times
# longer, and more, on a machine that others use.
_TIMEOUT_MORE_SECONDS = 10
_BURN_MORE = 4
_HANDLER_MB = 64
_MAX_TIMEOUT_SECONDS = MAX_TIMEOUT_MS // 1_000


@dataclass(frozen=True, slots=True)
class Functions:
    """How the load's function is set up.

    retries: after a failure, 0 to 2; none by default, so that a fail rate is what it says. destination_on: "success"
    or "failure" sends these outcomes on to DESTINATION, a function that sleeps destination_sleep_ms; "": there is none.
    """

    retries: int = 0
    timeout_seconds: int = 60
    memory_mb: int = 128
    destination_on: str = ""
    destination_sleep_ms: float = 1_000.0

    def sized_for(self, work: Work, longest_work_ms: float = 0.0) -> "Functions":
        """The same with a timeout and memory in which handlers can do what they are told.

        longest_work_ms: the most that the schedule itself asks of one event (Arrivals.work_ms). ValueError: no function
        may run so long or have so much.
        """
        asked_seconds = (work.sleep_ms + work.burn_ms + longest_work_ms) / 1e3
        timeout_seconds = math.ceil(asked_seconds + work.burn_ms / 1e3 * _BURN_MORE + _TIMEOUT_MORE_SECONDS)
        memory_mb = work.allocate_mib + _HANDLER_MB
        if asked_seconds + _TIMEOUT_MORE_SECONDS > _MAX_TIMEOUT_SECONDS:
            raise ValueError(
                f"handlers would be busy for {asked_seconds:g} s; a function may run for {_MAX_TIMEOUT_SECONDS} s, of "
                f"which {_TIMEOUT_MORE_SECONDS} s are left for all else"
            )
        if memory_mb > MAX_MEMORY_MB:
            raise ValueError(
                f"allocate_mib must be at most {MAX_MEMORY_MB - _HANDLER_MB:,}, not {work.allocate_mib:,}: a function "
                f"has at most {MAX_MEMORY_MB:,} MB, of which the handler itself needs {_HANDLER_MB}"
            )
        return replace(
            self,
            timeout_seconds=max(self.timeout_seconds, min(_MAX_TIMEOUT_SECONDS, timeout_seconds)),
            memory_mb=max(self.memory_mb, memory_mb),
        )

    def __post_init__(self) -> None:
        """ValueError: not within bounds."""
        if not 0 <= self.retries <= MAX_RETRIES:
            raise ValueError(f"retries must be within 0 to {MAX_RETRIES}, not {self.retries}")
        if self.destination_on not in ON:
            raise ValueError(f"destination_on is success, failure or nothing, not {self.destination_on!r}")
        if not 0 <= self.destination_sleep_ms < self.timeout_seconds * 1e3:
            raise ValueError("destination_sleep_ms is at least 0 and below the timeout")


def write_folder(folder: Path, functions: Functions | None = None) -> None:
    """A folder that `evenflow deploy` takes. ValueError: see Functions."""
    functions = functions or Functions()
    code = folder / "code"
    code.mkdir(parents=True, exist_ok=True)
    for name, text in _sources(functions).items():
        (code / name).write_text(text)
    manifest = _table(FUNCTION, "app.handler", functions)
    manifest += f'\n[[functions.buckets]]\nname = "{BUCKET}"\naccess = "write"\n'
    manifest += f"\n[functions.async]\nmaximum_retry_attempts = {functions.retries}\n"
    if functions.destination_on:
        manifest += f'on_{functions.destination_on} = {{ function = "{DESTINATION}" }}\n'
        manifest += "\n" + _table(DESTINATION, f"{_DESTINATION_MODULE}.handler", functions)
    (folder / "evenflow.toml").write_text(manifest)


def tenant_name(index: int, tenants: int) -> str:
    """The tenant of an index in a schedule of so many; a single one is the default tenant."""
    return DEFAULT_TENANT if tenants == 1 else f"load-{index}"


async def put(peer: Peer, tenants: int = 1, functions: Functions | None = None) -> tuple[str, ...]:
    """Tenants and their functions, as far as they are not there as they should be; the keys for LoadSpec.keys.

    peer: control's. One tenant: the default one, without keys. More: load-0, load-1, .. each with a new key, and its
    older ones gone. ValueError: too many; grpc.aio.AioRpcError: control refused.
    """
    functions = functions or Functions()
    if not 1 <= tenants <= MAX_DEPLOYED_TENANTS:
        raise ValueError(f"{tenants} tenants: 1 to {MAX_DEPLOYED_TENANTS:,} can be put on a fleet")
    stub: Any = control_pb2_grpc.ControlServiceStub(peer.channel)
    package = _package(functions)
    chunks = iter([control_pb2.UploadPackageRequest(chunk=package)])
    await stub.UploadPackage(chunks, metadata=peer.metadata, timeout=CALL_SECONDS)
    digest = hashlib.sha256(package).digest()
    identity = await _identity(stub, peer) if functions.destination_on else None
    keys = []
    for index in range(tenants):
        tenant = tenant_name(index, tenants)
        if tenants > 1:
            key = resources_pb2.AccessKey(
                access_key_id=f"AKIALOAD{index:012d}", secret=secrets.token_hex(_SECRET_BYTES)
            )
            told = resources_pb2.Tenant(tenant_id=tenant, access_keys=[key])
            request = control_pb2.PutTenantRequest(tenant=told)
            await stub.PutTenant(request, metadata=peer.metadata, timeout=CALL_SECONDS)
            keys.append(f"{key.access_key_id}:{key.secret}")
        if functions.destination_on:
            await _put_function(stub, peer, _destination(tenant, digest, functions))
        await _put_function(stub, peer, _load(tenant, digest, functions, identity))
    return tuple(keys)


async def _put_function(stub: Any, peer: Peer, wanted: resources_pb2.Function) -> None:
    asked = control_pb2.GetFunctionRequest(tenant_id=wanted.tenant_id, function_name=wanted.function_name)
    try:
        found = (await stub.GetFunction(asked, metadata=peer.metadata, timeout=CALL_SECONDS)).function
    except grpc.aio.AioRpcError as e:
        if e.code() != grpc.StatusCode.NOT_FOUND:
            raise
    else:
        # What is there stays, with its warm sandboxes.
        if _essence(found) == _essence(wanted):
            return
    request = control_pb2.PutFunctionRequest(function=wanted)
    await stub.PutFunction(request, metadata=peer.metadata, timeout=CALL_SECONDS)


def _essence(function: resources_pb2.Function) -> tuple[object, ...]:
    latest, asynchronous = function.latest, function.async_config
    return (
        latest.code_sha256,
        latest.handler,
        latest.timeout_ms,
        latest.memory_mb,
        [(one.bucket, one.writable) for one in latest.buckets],
        asynchronous.maximum_retry_attempts if asynchronous.HasField("maximum_retry_attempts") else None,
        asynchronous.on_success_arn,
        asynchronous.on_failure_arn,
    )


def _load(
    tenant: str, digest: bytes, functions: Functions, identity: resources_pb2.Fleet | None
) -> resources_pb2.Function:
    latest = _version("app.handler", digest, functions)
    latest.buckets.append(resources_pb2.BucketGrant(bucket=BUCKET, writable=True))
    asynchronous = resources_pb2.AsyncConfig(maximum_retry_attempts=functions.retries)
    if identity is not None:
        arn = function_arn(identity.region, account_of(tenant, identity.account_id), DESTINATION)
        setattr(asynchronous, f"on_{functions.destination_on}_arn", arn)
    return resources_pb2.Function(tenant_id=tenant, function_name=FUNCTION, latest=latest, async_config=asynchronous)


async def _identity(stub: Any, peer: Peer) -> resources_pb2.Fleet:
    call = stub.Watch(control_pb2.WatchRequest(node_id=_NODE_ID), metadata=peer.metadata, timeout=CALL_SECONDS)
    try:
        async for message in call:
            for resource in message.upserts:
                if resource.HasField("fleet"):
                    return resources_pb2.Fleet.FromString(resource.fleet.SerializeToString())
    finally:
        call.cancel()
    raise RuntimeError("control ended its stream before it told the fleet's account and region")


def _destination(tenant: str, digest: bytes, functions: Functions) -> resources_pb2.Function:
    latest = _version(f"{_DESTINATION_MODULE}.handler", digest, functions)
    return resources_pb2.Function(tenant_id=tenant, function_name=DESTINATION, latest=latest)


def _version(entry: str, digest: bytes, functions: Functions) -> resources_pb2.FunctionVersion:
    return resources_pb2.FunctionVersion(
        version="$LATEST",
        handler=entry,
        runtime="python3",
        code_sha256=digest,
        timeout_ms=functions.timeout_seconds * 1_000,
        memory_mb=functions.memory_mb,
    )


def _table(name: str, entry: str, functions: Functions) -> str:
    return (
        f'[[functions]]\nname = "{name}"\ncode = "code"\nhandler = "{entry}"\nruntime = "python3"\n'
        f"timeout_seconds = {functions.timeout_seconds}\nmemory_mb = {functions.memory_mb}\n"
    )


def _sources(functions: Functions) -> dict[str, str]:
    sleeper = (
        f"import time\n\n\ndef handler(event, context):\n    time.sleep({functions.destination_sleep_ms / 1e3!r})\n"
    )
    sources = {"app.py": Path(handler.__file__).read_text()}
    if functions.destination_on:
        sources[f"{_DESTINATION_MODULE}.py"] = sleeper
    return sources


def _package(functions: Functions) -> bytes:
    # The same bytes each time: what is there already is known by its digest.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in _sources(functions).items():
            archive.writestr(zipfile.ZipInfo(name, _PACKAGE_TIME), text)
    return buffer.getvalue()
