"""How much memory this host's sandboxes may have in all: as set, else a part of what the machine gives this process."""

import os
from collections.abc import Iterable
from pathlib import Path

# The rest is for the fleet's own processes and the kernel's caches.
BUDGET_PART = 0.75
LEAST_MB = 128
MAX_LEVELS = 64
# cgroup v1 says "no limit" with a number near 2**63.
_NO_LIMIT_BYTES = 1 << 60
_CGROUPS = Path("/sys/fs/cgroup")


def budget_mb(set_mb: int, physical_bytes: int, limits_bytes: Iterable[int]) -> int:
    """The budget in MiB; 0 set: BUDGET_PART of the least of physical memory and the limits. Pure."""
    if set_mb:
        return set_mb
    return max(LEAST_MB, int(min([physical_bytes, *limits_bytes]) * BUDGET_PART) >> 20)


def of_this_machine(set_mb: int) -> int:
    """The budget of this process; several hosts on one machine each count all of it unless it is set."""
    physical_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        own = Path("/proc/self/cgroup").read_text()
    except OSError:
        own = ""
    return budget_mb(set_mb, physical_bytes, (limit for file in limit_files(own) for limit in _limit_in(file)))


def limit_files(own_cgroups: str) -> list[Path]:
    """Files that may limit a process with this /proc/self/cgroup: of its cgroup and of all above it. Pure."""
    files: list[Path] = []
    for line in own_cgroups.splitlines():
        _number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not path.startswith("/") or ".." in path.split("/"):
            # In a namespace of its own that does not hold it: what is above cannot be seen.
            path = "/"
        if controllers == "":
            root, name = _CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = _CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = root / path.strip("/")
        # A container sees its own cgroup as the root while the path names it as the machine does: both are tried.
        for _ in range(MAX_LEVELS):
            files.append(folder / name)
            if folder == root:
                break
            folder = folder.parent
    return files


def _limit_in(file: Path) -> list[int]:
    try:
        text = file.read_text().strip()
    except OSError:
        return []
    return [int(text)] if text.isdigit() and 0 < int(text) < _NO_LIMIT_BYTES else []
