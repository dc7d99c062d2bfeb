"""Attack 19: secrets where they do not belong: command lines, error texts, core dumps."""

import os
import resource
import signal
from typing import Any

from .lib import Event, Tries, canaries_in, foreign_pids, run

CORE_SECONDS = 5


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(65_536)


def arguments(event: Event, tries: Tries) -> None:
    """Secrets in command lines."""
    for pid in foreign_pids(event):
        tries.take(f"pid {pid}", lambda path: canaries_in(_read(path)), f"/proc/{pid}/cmdline")


def own_environment(event: Event, tries: Tries) -> None:
    """What this process was started with, and by whom: the first environment of a fork is its parent's."""
    for path in ("/proc/self/environ", f"/proc/{os.getppid()}/environ"):
        tries.take(path, lambda path: _foreign(event, _read(path)), path)
    tries.take("environment", _foreign, event, repr(dict(os.environ)).encode())


def _foreign(event: Event, data: bytes) -> str:
    names = [b"EVENFLOW_TOKEN", b"EVENFLOW_DATA", b"EVENFLOW_RUN", b"EVENFLOW_NODE"]
    seen = [name.decode() for name in names if name in data]
    own = event.get("own_secret", "")
    return " ".join([*(one for one in canaries_in(data).split() if one != own), *seen])


def core_dump(event: Event, tries: Tries) -> None:
    """A core file of a process that crashes, with the limit raised first."""
    folder = os.environ.get("TMPDIR", "/tmp")
    before = set(os.listdir(folder))
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(folder)
            signal.alarm(CORE_SECONDS)
            try:
                _, hard = resource.getrlimit(resource.RLIMIT_CORE)
                resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
            except OSError:
                pass
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
            os.abort()
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    made = sorted(set(os.listdir(folder)) - before)
    if made or os.WCOREDUMP(status):
        tries.got(f"core dumped: {made}")
        for name in made:
            if name.startswith("core"):
                os.unlink(os.path.join(folder, name))


def handler(event: Event, _context: object) -> Any:
    """Looks for secrets; `do` crash: with one in memory; error: one that shows where things lie."""
    if event.get("do") == "error":
        raise RuntimeError(f"handler fails in {__file__}")
    if event.get("do") == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    return run({"command lines": arguments, "environment": own_environment, "core dumps": core_dump}, event)
