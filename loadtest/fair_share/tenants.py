"""Puts the tenants on a fleet: each with an access key and a function of its own, over control's contract."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

from evenflow.control.v1 import control_pb2, control_pb2_grpc, resources_pb2

from loadtest.fair_share import starts
from loadtest.fair_share.plan import Plan
from services.shared.channels import Peer

FUNCTION = "sleeper"
BUCKET = "fair-share"
CALL_SECONDS = 20.0
_TIMEOUT_MS = 10_000
_MEMORY_MB = 128
_SOURCE = """import os, time
os.environ["FAIR_SHARE_STARTS"] = os.environ["EVENFLOW_BUCKET_FAIR_SHARE"]
import starts
def handler(event, context):
    starts.note(event["phase"], event["number"])
    time.sleep(event["sleep_ms"] / 1000)
"""


def key_of(plan: Plan, tenant: str) -> str:
    """The tenant's access key; the doors tell tenants by it."""
    return f"AKIAFAIR{plan.tenants.index(tenant):012d}"


async def put_all(peer: Peer, plan: Plan) -> None:
    """Tenants, keys and functions. grpc.aio.AioRpcError: control refused."""
    stub: Any = control_pb2_grpc.ControlServiceStub(peer.channel)
    package = _package()
    chunks = iter([control_pb2.UploadPackageRequest(chunk=package)])
    await stub.UploadPackage(chunks, metadata=peer.metadata, timeout=CALL_SECONDS)
    latest = resources_pb2.FunctionVersion(
        handler="app.handler",
        runtime="python3",
        code_sha256=hashlib.sha256(package).digest(),
        timeout_ms=_TIMEOUT_MS,
        memory_mb=_MEMORY_MB,
        buckets=[resources_pb2.BucketGrant(bucket=BUCKET, writable=True)],
    )
    for tenant in plan.tenants:
        key = resources_pb2.AccessKey(access_key_id=key_of(plan, tenant))
        put_tenant = control_pb2.PutTenantRequest(tenant=resources_pb2.Tenant(tenant_id=tenant, access_keys=[key]))
        await stub.PutTenant(put_tenant, metadata=peer.metadata, timeout=CALL_SECONDS)
        function = resources_pb2.Function(tenant_id=tenant, function_name=FUNCTION, latest=latest)
        put_function = control_pb2.PutFunctionRequest(function=function)
        await stub.PutFunction(put_function, metadata=peer.metadata, timeout=CALL_SECONDS)


def _package() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", _SOURCE)
        archive.writestr("starts.py", Path(starts.__file__).read_text())
    return buffer.getvalue()
