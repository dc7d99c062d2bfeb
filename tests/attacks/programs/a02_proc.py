"""Attack 2: look at other processes through /proc."""

import os
from typing import Any

from .lib import READ_BYTES, Event, Tries, canaries_in, foreign_pids, run


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read(READ_BYTES)


def environment(event: Event, tries: Tries) -> None:
    """Secrets in others' environments."""
    for pid in foreign_pids(event):
        tries.take(f"pid {pid}", lambda pid=pid: canaries_in(_read(pid, "environ")))  # type: ignore[misc]


def maps(event: Event, tries: Tries) -> None:
    """Where others' memory lies."""
    for pid in foreign_pids(event):
        tries.take(f"pid {pid}", lambda pid=pid: len(_read(pid, "maps")))  # type: ignore[misc]


def descriptors(event: Event, tries: Tries) -> None:
    """What others have open."""
    for pid in foreign_pids(event):
        tries.take(f"pid {pid}", lambda pid=pid: len(os.listdir(f"/proc/{pid}/fd")))  # type: ignore[misc]


def links(event: Event, tries: Tries) -> None:
    """Where others work and what they run."""
    for pid in foreign_pids(event):
        for name in ("cwd", "root", "exe"):
            tries.take(f"pid {pid}", lambda pid=pid, name=name: os.readlink(f"/proc/{pid}/{name}"))  # type: ignore[misc]


def command_lines(event: Event, tries: Tries) -> None:
    """That others exist, and how they were started."""
    for pid in foreign_pids(event):
        tries.take(f"pid {pid}", lambda pid=pid: _read(pid, "cmdline").replace(b"\0", b" ")[:60])  # type: ignore[misc]


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """Looks at everybody."""
    variants = {"environ": environment, "maps": maps, "fd": descriptors, "links": links, "cmdline": command_lines}
    return run(variants, event)
