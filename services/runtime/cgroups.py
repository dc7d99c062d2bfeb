"""A control group for each sandbox, of version 1 or 2, whichever this machine lets this process make.

A sandbox enters its group before anything of its function is known; the limits are written when it gets one. Groups are
used again: making one costs more than emptying it. Sources: the kernel's admin-guide/cgroup-v1 and cgroup-v2.
"""

import os
from dataclasses import dataclass
from pathlib import Path

PREFIX = "evenflow-"
# AWS gives a sandbox of this memory size one processor.
MB_PER_CPU = 1_769
CPU_PERIOD_US = 100_000
MIN_CPU_QUOTA_US = 1_000
SHARES_PER_CPU = 1_024
WEIGHT_PER_CPU = 100
# All sandboxes together weigh as so many processes of the fleet: neither side starves the other.
SANDBOXES_WEIGHT = 8
_UNLIMITED_V1, _UNLIMITED_V2 = "-1", "max"
_MIB = 1_048_576


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one sandbox. has_quota: never more than its part of a processor; else its part is what it gets in a crowd."""

    memory_mb: int
    processes: int
    has_quota: bool

    @property
    def cpu_quota_us(self) -> int:
        """Microseconds of processor time in each CPU_PERIOD_US."""
        return max(MIN_CPU_QUOTA_US, CPU_PERIOD_US * self.memory_mb // MB_PER_CPU)


@dataclass(slots=True)
class Group:
    """One sandbox's place in each hierarchy: controller -> folder."""

    number: int
    folders: dict[str, Path]
    # As written last: most functions have the same, and writing costs as much as a mount.
    limits: Limits | None = None
    oom_kills: int = 0

    @property
    def entrances(self) -> list[str]:
        """Files that a process enters by, each by writing "0"."""
        return [str(folder / "cgroup.procs") for folder in dict.fromkeys(self.folders.values())]


class Cgroups:
    """The groups of one host. `missing`: why there are none; empty: there are."""

    def __init__(self, node_id: str, parent_folder: str = "") -> None:
        """parent_folder: a group of version 2 that was delegated to this user; empty: the one this process is in."""
        self.missing = ""
        self._name = f"{PREFIX}{node_id}-{os.getpid()}"
        self._bases: dict[str, Path] = {}
        self._is_v2 = False
        self._free: list[Group] = []
        self._made = 0
        try:
            self._find(parent_folder)
        except OSError as e:
            self.missing = f"{e.filename or 'cgroup'}: {e.strerror}"

    def take(self) -> Group:
        """A group that nobody is in. OSError: it cannot be made."""
        if self._free:
            return self._free.pop()
        self._made += 1
        folders = {controller: base / f"sandbox-{self._made}" for controller, base in self._bases.items()}
        for folder in dict.fromkeys(folders.values()):
            folder.mkdir(exist_ok=True)
        return Group(self._made, folders)

    def limit(self, group: Group, limits: Limits) -> None:
        """What a sandbox in it may use from now on. OSError: refused."""
        if group.limits == limits:
            return
        group.limits = None
        memory, pids, cpu = (group.folders.get(name) for name in ("memory", "pids", "cpu"))
        if memory is not None:
            self._limit_memory(memory, limits.memory_mb * _MIB)
        if pids is not None:
            _write(pids / "pids.max", str(limits.processes))
        if cpu is not None:
            self._limit_cpu(cpu, limits)
        group.limits = limits

    def _limit_cpu(self, cpu: Path, limits: Limits) -> None:
        part = limits.memory_mb / MB_PER_CPU
        if self._is_v2:
            _write(cpu / "cpu.weight", str(min(10_000, max(1, round(WEIGHT_PER_CPU * part)))))
            quota = str(limits.cpu_quota_us) if limits.has_quota else _UNLIMITED_V2
            _write(cpu / "cpu.max", f"{quota} {CPU_PERIOD_US}")
        else:
            _write(cpu / "cpu.shares", str(max(2, round(SHARES_PER_CPU * part))))
            _write(cpu / "cpu.cfs_quota_us", str(limits.cpu_quota_us) if limits.has_quota else _UNLIMITED_V1)

    def was_out_of_memory(self, group: Group) -> bool:
        """Whether the kernel killed something of it for its memory limit since this was asked last."""
        before, group.oom_kills = group.oom_kills, self._oom_kills(group)
        return group.oom_kills > before

    def _oom_kills(self, group: Group) -> int:
        memory = group.folders.get("memory")
        if memory is None:
            return 0
        path = memory / ("memory.events" if self._is_v2 else "memory.oom_control")
        try:
            counts = dict(line.split() for line in path.read_text().splitlines())
        except (OSError, ValueError):
            return 0
        return int(counts.get("oom_kill", 0))

    def give_back(self, group: Group) -> None:
        """Everything that was in it is dead."""
        self._free.append(group)

    def close(self) -> None:
        """Remove all groups of this host; those that somebody is in stay, for the next start to remove."""
        for base in dict.fromkeys(self._bases.values()):
            _remove(base)

    # --- what there is

    def _find(self, parent_folder: str) -> None:
        mounts = _mounts()
        if parent_folder or "memory" not in mounts:
            self._is_v2 = True
            folder = Path(parent_folder) if parent_folder else _own_folder(mounts.get(""), "")
            self._use_v2(folder)
        else:
            for controller in ("memory", "pids", "cpu"):
                if controller in mounts:
                    self._use(controller, _own_folder(mounts[controller], controller))
            if "pids" not in self._bases:
                self.missing = "the kernel has no pids controller"

    def _use_v2(self, folder: Path) -> None:
        there = (folder / "cgroup.controllers").read_text().split()
        lacking = [name for name in ("memory", "pids") if name not in there]
        if lacking:
            self.missing = f"{folder} was given no {' and no '.join(lacking)} controller"
            return
        wanted = [name for name in ("memory", "pids", "cpu") if name in there]
        asked = " ".join(f"+{name}" for name in wanted)
        try:
            _write(folder / "cgroup.subtree_control", asked)
        except OSError as e:
            self.missing = (
                f"{folder} cannot be divided ({e.strerror}): processes are in it; name an empty group that is "
                "delegated to this user with sandbox.cgroup"
            )
            return
        for name in wanted:
            self._use(name, folder)
        base = next(iter(self._bases.values()))
        _write(base / "cgroup.subtree_control", asked)
        if "cpu" in wanted:
            _write(base / "cpu.weight", str(WEIGHT_PER_CPU * SANDBOXES_WEIGHT))

    def _use(self, controller: str, folder: Path) -> None:
        for left in folder.glob(f"{PREFIX}*"):
            if _is_orphaned(left):
                _remove(left)
        base = folder / self._name
        base.mkdir(exist_ok=True)
        self._bases[controller] = base
        if controller == "cpu" and not self._is_v2:
            _write(base / "cpu.shares", str(SHARES_PER_CPU * SANDBOXES_WEIGHT))

    def _limit_memory(self, folder: Path, size_bytes: int) -> None:
        if self._is_v2:
            _write(folder / "memory.max", str(size_bytes))
            for name, value in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
                if (folder / name).exists():
                    _write(folder / name, value)
            return
        with_swap = folder / "memory.memsw.limit_in_bytes"
        limit = folder / "memory.limit_in_bytes"
        if with_swap.exists():
            # The one with swap may never be the lower one: up from it, down to it.
            for path in (with_swap, limit):
                _write(path, _UNLIMITED_V1)
            _write(limit, str(size_bytes))
            _write(with_swap, str(size_bytes))
        else:
            _write(limit, str(size_bytes))


def _mounts() -> dict[str, Path]:
    """Where each controller is mounted; "" is version 2."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = [*rest.split(" ", 2), "", ""][:3]
        where = Path(fields.split()[4])
        if kind == "cgroup2":
            found.setdefault("", where)
        elif kind == "cgroup":
            for name in options.split(","):
                found.setdefault(name, where)
    return found


def _own_folder(mount: Path | None, controller: str) -> Path:
    """The group that this process is in. OSError: there is none."""
    if mount is not None:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            if controller in names.split(",") and (controller or not names):
                folder = mount / path.lstrip("/")
                # In a container the path can be the host's.
                return folder if folder.is_dir() else mount
    raise FileNotFoundError(2, "no cgroup file system is mounted", controller or "cgroup2")


def _is_orphaned(folder: Path) -> bool:
    pid = folder.name.rpartition("-")[2]
    return pid.isdigit() and not os.path.exists(f"/proc/{pid}")


def _remove(base: Path) -> None:
    for folder in (*base.glob("sandbox-*"), base):
        try:
            folder.rmdir()
        except OSError:
            continue


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
