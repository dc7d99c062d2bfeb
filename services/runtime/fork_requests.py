"""What a blank sandbox is told to become: what runs in it, what it sees of the function's, its limits."""

import os
from pathlib import Path
from typing import Any

from evenflow.control.v1 import resources_pb2

from services.runtime import runtimes
from services.runtime.environment import Environments
from services.runtime.functions import HostedFunction
from services.runtime.runtimes import Places
from services.runtime.sandbox import view
from services.runtime.seats import Seat
from services.runtime.settings import RuntimeSettings
from services.runtime.tiers import Isolation


def fork_request(
    settings: RuntimeSettings,
    isolation: Isolation,
    function: HostedFunction,
    environments: Environments,
    sandbox_id: str,
    seat: Seat,
) -> dict[str, Any]:
    """As sandbox/child.py wants it, for a function whose code is here. OSError: no bucket folder."""
    package, launch, version = function.package, function.launch, function.version
    assert package is not None and launch is not None
    code = os.path.realpath(package.code_dir)
    layers = os.path.realpath(function.layers.folder) if function.layers.folder else ""
    # Its own files are where this machine has them, on every tier.
    runtime_dir = (launch.client.folder if launch.client is not None else "") or view.RUNTIME_ROOT
    if isolation.has_mounts:
        places = Places(view.TASK_ROOT, view.LAYERS_ROOT if layers else "", runtime_dir)
    else:
        places = Places(code, layers, runtime_dir)
    return {
        "handler": version.handler,
        # Empty: the handler is a function of the fork itself.
        "commands": runtimes.commands_of(launch, places, version.handler, version.memory_mb),
        "environment": environments.of(function, sandbox_id, runtimes.environment_of(launch, places)),
        "code": code,
        "layers": layers,
        "module_folders": runtimes.python_folders(places.layers, launch.layer_python) if places.layers else [],
        "tmp": os.path.realpath(seat.tmp_dir),
        "buckets": _buckets(version, settings, seat),
        "uid": seat.uid,
        "limits": {
            "nofile": settings.max_files,
            "nproc": settings.max_processes,
            "fsize": settings.max_file_bytes,
            "data": 0 if isolation.has_cgroup else version.memory_mb << 20,
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
