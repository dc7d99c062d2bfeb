"""How much of the machine went to programs that are no part of the bench: the more, the less its figures say."""

import os
import resource
from pathlib import Path

from loadtest.bench import processes

# Above this share of all cores a run is worth repeating on a quieter machine.
NOISY_PERCENT = 5.0
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
# Positions in /proc/stat's first line: time that no program used. Guest time (8, 9) is in user time already.
_IDLE, _IOWAIT = 3, 4
_OWN_FIELDS = 8


class Bystanders:
    """Watches from its making on."""

    def __init__(self) -> None:
        self._total, self._idle = _machine_seconds()
        self._own = _own_seconds()

    def percent(self) -> float:
        """CPU of other programs since then, with what a hypervisor took, per cent of all cores."""
        total, idle = _machine_seconds()
        elapsed = total - self._total
        busy = elapsed - (idle - self._idle)
        return others_percent(elapsed, busy, _own_seconds() - self._own)

    def note(self) -> str:
        """The same in words."""
        share = self.percent()
        verdict = ": a noisy machine, measure again when it is quiet" if share > NOISY_PERCENT else ""
        return f"programs that are no part of the bench used {share:.0f} % of the machine's CPU meanwhile{verdict}"


def others_percent(elapsed_seconds: float, busy_seconds: float, own_seconds: float) -> float:
    """What is left of the busy time without our own, per cent of all; never negative, for clocks of different grain."""
    return max(0.0, 100 * (busy_seconds - own_seconds) / elapsed_seconds) if elapsed_seconds > 0 else 0.0


def parse_machine(stat: str) -> tuple[float, float]:
    """From the text of /proc/stat: seconds of all cores in all, and of those idle."""
    fields = [int(field) / _TICKS_A_SECOND for field in stat.splitlines()[0].split()[1 : 1 + _OWN_FIELDS]]
    return sum(fields), fields[_IDLE] + fields[_IOWAIT]


def _machine_seconds() -> tuple[float, float]:
    return parse_machine(Path("/proc/stat").read_text())


def _own_seconds() -> float:
    # This process, the children it has collected, and those that still run.
    seconds = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        seconds += usage.ru_utime + usage.ru_stime
    return seconds + sum(processes.cpu_seconds(pid) for pid in processes.descendants(os.getpid()))
