"""What looks at a fleet say of a run: CPU by service, settled events, samples."""

import pytest

from loadtest.bench.processes import CpuTimes
from loadtest.plan import cpu
from loadtest.plan.sampling import Look, samples
from loadtest.plan.site import Hosts, Shards
from loadtest.plan.window import window

SERVICES = {10: "queue", 20: "poller", 21: "poller"}


def service_of(pid: int) -> str:
    """As a site tells it."""
    return SERVICES.get(pid, "sandboxes")


def look(at: float, finished: int, times: dict[int, tuple[float, float]], depths: tuple[int, ...] = (0, 0)) -> Look:
    """times: own and reaped CPU seconds by pid."""
    told = {pid: CpuTimes(*seconds) for pid, seconds in times.items()}
    return Look(at, Shards(depths, 1, finished), Hosts(8, 2, 3), told)


def test_the_window_is_between_looks_where_it_has_to_be() -> None:
    """A look a second, at 100 s to 104 s; 50 events and 0.5 s of the queue's CPU each second."""
    looks = [look(100 + n, 50 * n, {10: (0.5 * n, 0.0)}) for n in range(5)]
    found = window(looks, begin=100.5, end=103.0, drained=103.5, service_of=service_of)
    assert found.settled == 150
    # Within the counted part alone: the drain is no throughput.
    assert found.ended == 125
    assert found.cpu_seconds == {"queue": pytest.approx(1.5)}
    assert found.busiest_core == {"queue": pytest.approx(0.5)}


def test_beyond_the_looks_nothing_is_made_up() -> None:
    """A drain that ended after the last look counts as far as was seen; a single look shows no change at all."""
    looks = [look(100, 0, {10: (0.0, 0.0)}), look(102, 80, {10: (1.0, 0.0)})]
    found = window(looks, begin=99.0, end=105.0, drained=110.0, service_of=service_of)
    assert (found.settled, found.cpu_seconds) == (80, {"queue": 1.0})
    alone = window(looks[:1], 100.0, 101.0, 101.0, service_of)
    assert (alone.settled, alone.cpu_seconds, alone.busiest_core, alone.ended) == (0, {}, {}, None)


def test_a_sandbox_that_ended_keeps_its_cpu() -> None:
    """Its parent reaps it: what it used is there once, not twice, and not lost."""
    before = {30: CpuTimes(1.0, 0.0), 31: CpuTimes(4.0, 0.0)}
    after = {30: CpuTimes(1.0, 4.5)}
    spent = cpu.spent(cpu.by_service(before, service_of), cpu.by_service(after, service_of))
    assert spent == {"sandboxes": pytest.approx(0.5)}


def test_what_nobody_reaped_is_no_negative_cpu() -> None:
    """An orphan that ended takes its CPU with it: the sum shrinks, what was spent is 0."""
    before, after = {20: CpuTimes(1.0, 0.0), 21: CpuTimes(3.0, 0.0)}, {20: CpuTimes(1.5, 0.0)}
    assert cpu.spent(cpu.by_service(before, service_of), cpu.by_service(after, service_of)) == {"poller": 0.0}


def test_the_busiest_process_of_a_service_counts_not_their_sum() -> None:
    """Two pollers at 0.2 and 0.9 of a core; what came meanwhile is not known well enough; reaping is no own work."""
    before = {20: CpuTimes(0.0, 0.0), 21: CpuTimes(0.0, 0.0)}
    after = {20: CpuTimes(0.4, 9.0), 21: CpuTimes(1.8, 0.0), 10: CpuTimes(2.0, 0.0)}
    assert cpu.busiest(before, after, 2.0, service_of) == {"poller": pytest.approx(0.9)}


def test_samples_count_from_the_first_intended_send() -> None:
    """The first look only gives the CPU to count from."""
    looks = [look(100 + n / 2, 0, {10: (0.25 * n, 0.0)}, (n, 2 * n)) for n in range(3)]
    first, second = samples(looks, began=100.4, service_of=service_of)
    assert [first.at_seconds, second.at_seconds] == pytest.approx([0.1, 0.6])
    assert second.depths == (2, 4) and second.depth == 6
    assert second.cpu_cores == {"queue": pytest.approx(0.5)}
    assert (second.leased, second.in_flight, second.sandboxes) == (1, 2, 3)
