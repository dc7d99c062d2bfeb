"""What this machine lets a sandbox have; each thing is tried in a process that ends after it."""

import os
from collections.abc import Callable
from typing import Any

from . import isolate


def probe(uid: int) -> "dict[str, Any]":
    """{"namespaces": "root" | "user" | "", "own_uid": bool}."""
    namespaces = ""
    if os.geteuid() == 0 and _works(lambda: _try_mounts("root")):
        namespaces = "root"
    elif os.geteuid() != 0 and _works(lambda: _try_mounts("user")):
        namespaces = "user"
    return {"namespaces": namespaces, "own_uid": _works(lambda: isolate.become(uid))}


def _try_mounts(how: str) -> None:
    isolate.enter_namespaces(how)
    for path in ("/var", "/tmp", isolate.MOUNT_ROOT):
        isolate.cover(path)
    os.mkdir(isolate.TASK_ROOT)
    view = isolate.View(["/usr"])
    view.bind("/usr", isolate.TASK_ROOT, writable=False)
    view.close()


def _works(attempt: Callable[[], None]) -> bool:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            attempt()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return status == 0
