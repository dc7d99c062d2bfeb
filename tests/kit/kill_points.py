"""kill -9 of a real service at a named point: before or after one of its own functions, once, when a test asks.

The services know nothing of this: a process that has `kill_points_site` on PYTHONPATH gets its functions wrapped as
they are imported. A test asks by a file named like the node, whose text is the point.
"""

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER_VARIABLE = "EVENFLOW_TEST_KILL_POINTS"
SITE = Path(__file__).parent / "kill_points_site"
# Functions by the module that has them.
WRAPPED = {
    "services.queue.keeper": ("Keeper._drain",),
    "services.queue.marks": ("Marks.note", "Marks.note_fetched", "Marks.claim", "Marks.drop"),
    "services.queue.transfer": ("OfferedFile.read", "IncomingFile.write", "put_in_place", "remove_file"),
    "services.queue.courier": ("GrpcCourier.complete",),
    "services.queue.database": ("Database.commit",),
    "services.frontend.accept": ("Accepter.submit", "Accepter.answered"),
    "services.poller.processing": ("Processing.leased", "Processing.ended", "Processing.settled"),
    "services.poller.deliveries": ("Deliveries.start",),
    "services.runtime.sandbox_runs": ("SandboxRuns.begin", "SandboxRuns.ended"),
    "services.control.shard_moves": ("decide_complete",),
    "services.control.node_calls": ("NodeCalls.CompleteMove",),
}


class KillPoints:
    """What a test sees: asks for a death, and whether it has happened."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """For the services' processes."""
        return {FOLDER_VARIABLE: str(self._folder), "PYTHONPATH": str(SITE)}

    def ask(self, node_id: str, point: str) -> None:
        """Have the node die the next time it comes to this point, such as "Marks.note before"."""
        name, _, when = point.rpartition(" ")
        assert when in ("before", "after") and any(name in names for names in WRAPPED.values()), point
        fresh = self._folder / f".{node_id}"
        fresh.write_text(point)
        fresh.replace(self._folder / node_id)

    def is_due(self, node_id: str) -> bool:
        """Whether the node has not come there yet."""
        return (self._folder / node_id).exists()


def reach(point: str) -> None:
    """In the service: die here if that was asked for."""
    path = _asked()
    # Several times an event: nobody asked, nearly always.
    if not os.path.exists(path):
        return
    try:
        if Path(path).read_text() != point:
            return
        os.unlink(path)
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


@functools.cache
def _asked() -> str:
    return os.path.join(os.environ[FOLDER_VARIABLE], os.environ.get("EVENFLOW_NODE_ID", "-"))


def install() -> None:
    """Wrap the functions as soon as their modules are imported."""
    sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in WRAPPED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, name)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, inner: importlib.abc.Loader, name: str) -> None:
        self._inner = inner
        self._name = name

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        for name in WRAPPED[self._name]:
            owner: Any = module
            *path, last = name.split(".")
            for part in path:
                owner = getattr(owner, part)
            setattr(owner, last, _wrap(getattr(owner, last), name))


def _wrap(function: Any, name: str) -> Any:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def asynchronous(*args: Any, **more: Any) -> Any:
            reach(f"{name} before")
            result = await function(*args, **more)
            reach(f"{name} after")
            return result

        return asynchronous

    @functools.wraps(function)
    def synchronous(*args: Any, **more: Any) -> Any:
        reach(f"{name} before")
        result = function(*args, **more)
        reach(f"{name} after")
        return result

    return synchronous
