"""Attack 2: look at other processes through /proc."""

import os
from typing import Any

from .lib import READ_BYTES, Event, Tries, canaries_in, foreign_pids, run


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read(READ_BYTES)


def _secrets(pid: int) -> str:
    return canaries_in(_read(pid, "environ"))


def environment(event: Event, tries: Tries) -> None:
    """Secrets in others' environments."""
    for pid in foreign_pids(event):
        tries.take(f"pid {pid}", _secrets, pid)


def maps(event: Event, tries: Tries) -> None:
    """Where others' memory lies."""
    for pid in foreign_pids(event):
        tries.take(f"pid {pid}", _read, pid, "maps")


def descriptors(event: Event, tries: Tries) -> None:
    """What others have open."""
    for pid in foreign_pids(event):
        tries.take(f"pid {pid}", os.listdir, f"/proc/{pid}/fd")


def links(event: Event, tries: Tries) -> None:
    """Where others work and what they run."""
    for pid in foreign_pids(event):
        for name in ("cwd", "root", "exe"):
            tries.take(f"pid {pid}", os.readlink, f"/proc/{pid}/{name}")


def command_lines(event: Event, tries: Tries) -> None:
    """That others exist, and how they were started."""
    for pid in foreign_pids(event):
        tries.take(f"pid {pid}", _read, pid, "cmdline")


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """Looks at everybody."""
    variants = {"environ": environment, "maps": maps, "fd": descriptors, "links": links, "cmdline": command_lines}
    return run(variants, event)
