"""Looks at what no limit of the kernel bounds: the size of /tmp; without a cgroup also memory and processes."""

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass

from services.runtime.sandbox import strays

WATCH_SECONDS = 0.2
# Idle sandboxes can only be at it through what a handler left running: every so many rounds.
IDLE_ROUNDS = 25
# More files than that are too many, whatever their size; also the most that one look reads.
MAX_TMP_ENTRIES = 131_072
DISK, MEMORY, PROCESSES = "disk", "out of memory", "processes"
_BLOCK_BYTES = 512
_HIDDEN = frozenset((errno.EACCES, errno.EPERM, errno.ENAMETOOLONG))
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Watched:
    """One sandbox and its bounds; max_memory_bytes and max_processes (threads) are 0 where the kernel sees to it.

    shared_bytes: memory that every process below the parent has in common with it. pid: 0 while it is not known.
    """

    number: int
    pid: int
    tmp_dir: str
    max_tmp_bytes: int
    max_memory_bytes: int
    max_processes: int
    shared_bytes: int


def over(all_watched: Iterable[Watched]) -> list[tuple[int, str]]:
    """Numbers of those that are over a bound, each with DISK, MEMORY or PROCESSES."""
    found: list[tuple[int, str]] = []
    for watched in all_watched:
        cause = _bound_passed(watched)
        if cause:
            found.append((watched.number, cause))
    return found


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM; 0: it is gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def proportional_bytes(pid: int) -> int | None:
    """Memory of a process in RAM, pages that several have counted in parts; None: that cannot be told."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return next((int(line.split()[1]) << 10 for line in file if line.startswith("Pss:")), None)
    except (OSError, ValueError, IndexError):
        return None


def peak_rss_kb(pid: int) -> int:
    """The most memory that a process ever had in RAM, KiB, as the kernel knows it; 0: it is gone."""
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("VmHWM:")), 0)
    except (OSError, ValueError, IndexError):
        return 0


def peaks(all_watched: Iterable[Watched]) -> list[tuple[int, int]]:
    """Numbers of those that live, each with its process's peak, KiB."""
    found = ((watched.number, peak_rss_kb(watched.pid)) for watched in all_watched if watched.pid)
    return [(number, peak) for number, peak in found if peak]


def _threads_of(pid: int) -> int:
    """Its threads, as the kernel's own limits count them; 0: it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            # The name before may hold anything: fields count from behind its parenthesis.
            return int(file.read().rpartition(")")[2].split()[17])
    except (OSError, IndexError):
        return 0


def _bound_passed(watched: Watched) -> str:
    if _is_too_large(watched.tmp_dir, watched.max_tmp_bytes):
        return DISK
    # A sandbox whose pid is not told yet runs nothing; below pid 0 are all processes of the machine.
    if not watched.pid or not (watched.max_memory_bytes or watched.max_processes):
        return ""
    pids = [watched.pid, *strays.descendants_of(watched.pid)]
    if watched.max_processes and sum(_threads_of(pid) for pid in pids) > watched.max_processes:
        return PROCESSES
    return MEMORY if watched.max_memory_bytes and _uses_too_much(watched, pids) else ""


def _uses_too_much(watched: Watched, pids: Iterable[int]) -> bool:
    used = {pid: max(0, resident_bytes(pid) - watched.shared_bytes) for pid in pids}
    if sum(used.values()) <= watched.max_memory_bytes:
        return False
    # Dearer to read: a fork has its pages in common with who forked it, and is not to be counted as twice as much.
    parts = {pid: proportional_bytes(pid) for pid in used}
    total = sum(used[pid] if part is None else min(part, used[pid]) for pid, part in parts.items())
    return total > watched.max_memory_bytes


def _is_too_large(folder: str, max_bytes: int) -> bool:
    """Whether its files take more of the disk, or are more than anybody needs; also where that cannot be told."""
    used = entries = 0
    folders = [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as found:
                for entry in found:
                    entries += 1
                    if entries > MAX_TMP_ENTRIES:
                        return True
                    used += entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
                    if used > max_bytes:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except OSError as e:
            # Removed meanwhile, most likely. But what is closed to who looks, or lies too deep for a path, may be all.
            if e.errno in _HIDDEN:
                return True
    return False
