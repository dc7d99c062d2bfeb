"""What a prepared parent is asked for one sandbox: what runs in it, what it sees, its limits."""

import os
from pathlib import Path
from typing import Any

from evenflow.control.v1 import resources_pb2

from services.runtime import runtimes
from services.runtime.functions import HostedFunction, environment_of
from services.runtime.runtimes import Places
from services.runtime.sandbox import isolate
from services.runtime.seats import Seat
from services.runtime.settings import RuntimeSettings


def fork_request(
    settings: RuntimeSettings,
    function: HostedFunction,
    fleet: resources_pb2.Fleet | None,
    sandbox_id: str,
    namespaces: str,
    seat: Seat,
) -> dict[str, Any]:
    """Of a function whose code is here; `namespaces` are those that the parent can make. OSError: no bucket folder."""
    package, launch, version = function.package, function.launch, function.version
    assert package is not None and launch is not None
    if settings.isolation == "0":
        namespaces = ""
    code = os.path.realpath(package.code_dir)
    layers = os.path.realpath(function.layers.folder) if function.layers.folder else ""
    runtime_dir = launch.client.folder if launch.client is not None else ""
    if namespaces:
        places = Places(isolate.TASK_ROOT, isolate.LAYERS_ROOT if layers else "", isolate.RUNTIME_ROOT)
    else:
        places = Places(code, layers, runtime_dir or isolate.RUNTIME_ROOT)
    return {
        "handler": version.handler,
        # Empty: the handler is a function of the fork itself.
        "commands": runtimes.commands_of(launch, places, version.handler, version.memory_mb),
        "environment": environment_of(function.function, fleet, sandbox_id, runtimes.environment_of(launch, places)),
        "code": code,
        "layers": layers,
        "module_folders": runtimes.python_folders(places.layers, launch.layer_python) if places.layers else [],
        "runtime_dir": runtime_dir,
        "reads": launch.node.roots if launch.node is not None else [],
        "tmp": os.path.realpath(seat.tmp_dir),
        "buckets": _buckets(version, settings, seat),
        "masks": [os.path.realpath(path) for path in (settings.data_dir, settings.run_dir)],
        "uid": seat.uid,
        "namespaces": namespaces,
        "limits": {
            "nofile": settings.max_files,
            "nproc": settings.max_processes,
            "fsize": settings.max_file_bytes,
        },
    }


def _buckets(version: resources_pb2.FunctionVersion, settings: RuntimeSettings, seat: Seat) -> list[list[Any]]:
    found = []
    for grant in version.buckets:
        path = Path(os.path.realpath(settings.data_dir)) / "buckets" / grant.bucket
        path.mkdir(parents=True, exist_ok=True)
        if seat.uid is not None and path.stat().st_mode & 0o777 != 0o777:
            # Sandboxes of many uids write here; the folder above is the fleet's own and closed to other users.
            path.chmod(0o777)
        found.append([grant.bucket, str(path), grant.writable])
    return found
