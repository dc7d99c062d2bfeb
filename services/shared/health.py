"""Whether this machine's service serves: `python -m services.shared.health`, with the service's own environment.

What a container's health check runs: it asks as any caller would, over TLS with the service's own certificate. Exit
code 0: it serves; 1: it does not, with a line on stderr; 2: the settings are wrong.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.shared.lifecycle import EXIT_BAD_SETTINGS
from services.shared.settings import NodeSettings, SettingsError, load
from services.shared.tls import Tls, own_name

CALL_SECONDS = 3.0


def check(environ: Mapping[str, str]) -> str:
    """Why it does not serve; empty: it does. SettingsError, ValueError: bad settings."""
    settings = load(NodeSettings, environ)
    tls = Tls.of(settings)
    target = _local(settings.listen_address)
    if tls is not None:
        channel = tls.blocking_channel(target, own_name(tls, settings.node_id), [])
    else:
        channel = grpc.insecure_channel(target)
    with channel:
        # Its stub has no type information of its methods.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS)
        except grpc.RpcError as e:
            failed: Any = e
            return f"{target}: {failed.code().name} {failed.details()}"
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return "" if status == "SERVING" else f"{target}: {status}"


def _local(address: str) -> str:
    host, _, port = address.rpartition(":")
    return {"0.0.0.0": f"127.0.0.1:{port}", "[::]": f"[::1]:{port}"}.get(host, address)


def main() -> int:
    """The exit code."""
    try:
        trouble = check(os.environ)
    except (SettingsError, ValueError) as e:
        print(f"error: {e}", file=sys.stderr)
        return EXIT_BAD_SETTINGS
    if trouble:
        print(trouble, file=sys.stderr)
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
