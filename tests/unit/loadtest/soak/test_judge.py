"""From samples to findings: each series is named, and what a leak in one of them does."""

from pathlib import Path

import numpy as np
import pytest

from loadtest.soak import report
from loadtest.soak.judge import Run, by_stretch, judge
from loadtest.soak.plan import DESTINED, DYING, RUNTIMES, SoakPlan, write_functions
from loadtest.soak.verdict import MIB, Ledger
from loadtest.soak.watch import Process, Sample, disk_bytes, kind_of
from services.policy.accounts import DEFAULT_TENANT
from services.policy.placement import rank_hosts

PLAN = SoakPlan()


def sample(at_seconds: float, leaked_bytes: float = 0.0, load_average: float = 0.5) -> Sample:
    """A fleet of one node that is well but for what it leaks."""
    return Sample(
        at_seconds=at_seconds,
        load_average=load_average,
        nodes={
            "queue-0": Process(1, int(90 * MIB + leaked_bytes), 40, 12),
            "sandboxes": Process(4, 120 * MIB, -1, 8),
        },
        pids={"queue-0": 7},
        disk={"shards": 40 * MIB, "wal": 4 * MIB, "logs": 2 * MIB, "buckets": int(at_seconds) << 20},
        outcomes=int(min(1.0, at_seconds / PLAN.outcome_keep_seconds) * PLAN.expected_outcomes),
        dead_letters=int(min(1.0, at_seconds / PLAN.dead_letter_keep_seconds) * PLAN.expected_dead_letters),
        depth=3,
        accepted=int(at_seconds * 100),
        finished=int(at_seconds * 100),
    )


def run(leak_an_hour: float = 0.0, load_average: float = 0.5) -> Run:
    """Half an hour."""
    times = np.arange(0.0, PLAN.seconds, 0.5)
    samples = [sample(at, leak_an_hour * at / 3_600, load_average) for at in np.arange(10.0, PLAN.seconds, 10.0)]
    return Run(PLAN, samples, 0, 2, Ledger(10, 1, 11, 0, 0, 0), (), {"accept": (times, np.full(len(times), 7.0))})


def test_a_flat_run_is_flat_and_its_page_says_so() -> None:
    """The generator's own records grow, and are not judged."""
    judged = judge(run())
    assert judged.not_flat == [] and judged.latency_void == ""
    names = {one.name for one in judged.findings}
    assert {
        "memory of queue-0",
        "fds of queue-0",
        "shard files",
        "WAL files",
        "logs of the services",
        "outcome rows",
    } <= names
    assert "files: buckets" not in names and "accept, p99" in names
    page = report.as_markdown(run(), judged, "a machine", ["a note"])
    assert "**Flat.**" in page and f"queue.outcome_keep_seconds={PLAN.outcome_keep_seconds}" in page


def test_a_leak_is_named() -> None:
    """30 MiB an hour in one process: 300 bytes lost at every third event."""
    judged = judge(run(30 * MIB))
    assert [one.name for one in judged.not_flat] == ["memory of all services", "memory of queue-0"]
    assert "**Not flat**" in report.as_markdown(run(30 * MIB), judged, "a machine", [])


def test_on_a_busy_machine_latencies_are_told_and_not_judged() -> None:
    """Everything else is."""
    judged = judge(run(load_average=9.0))
    assert "load was 9.0" in judged.latency_void and judged.not_flat == []
    assert not any(one.name.startswith("accept,") for one in judged.findings)
    assert "| accept, p99 | 7.0 ms |" in report.as_markdown(run(load_average=9.0), judged, "a machine", [])


def test_facts_and_plot_are_made_of_any_run(tmp_path: Path) -> None:
    """What cannot be read of the sandboxes is no obstacle."""
    facts = report.as_json(run(), judge(run()), {"cpu": "x"}, [])
    assert facts["flat"] is True and facts["ledger"]["lost"] == 0 and len(facts["samples"]) == 179
    report.plot(run(), tmp_path / "soak.svg")
    assert "<svg" in (tmp_path / "soak.svg").read_text()


def test_quantiles_of_stretches() -> None:
    """Each event counts where it was due; a stretch without events is left out."""
    at, values = np.array([0.5, 9.0, 31.0, 1.0]), np.array([1.0, 3.0, 7.0, 2.0])
    assert by_stretch(at, values, 0.5, 10.0) == ([0.0, 30.0], [2.0, 7.0])
    assert by_stretch(np.empty(0), np.empty(0), 0.5, 10.0) == ([], [])


def test_files_are_told_apart_by_kind(tmp_path: Path) -> None:
    """By where they lie in the data folder."""
    files = {"queue/queue-0/shard-0001.db": 5, "queue/queue-0/shard-0001.db-wal": 7, "logs/a.log": 3, "fleet.json": 2}
    for name, size_bytes in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size_bytes))
    assert disk_bytes(tmp_path) == {"shards": 5, "wal": 7, "logs": 3, "other": 2}
    assert kind_of(Path("control/control.db-wal")) == "control"


@pytest.mark.parametrize(
    ("minutes", "rate", "sample_seconds", "says"),
    [
        (1, 100, 10, "--minutes"),
        (30, 0, 10, "--rate"),
        (30, 100, 0.1, "--sample-seconds"),
        (2, 100, 10, "give more --minutes"),
        (float("nan"), 100, 10, "--minutes"),
    ],
)
def test_a_run_that_cannot_be_judged_is_refused(minutes: float, rate: float, sample_seconds: float, says: str) -> None:
    """By the option's name."""
    with pytest.raises(ValueError, match=says):
        SoakPlan(minutes, rate, sample_seconds)


def test_every_store_is_full_when_the_judging_begins() -> None:
    """Also in a run that is so short that the product's least retention is longer than a third of it."""
    for minutes in (2, 5, 30, 600):
        plan = SoakPlan(minutes, sample_seconds=1)
        kept = max(plan.outcome_keep_seconds * 25 / 24, plan.dead_letter_keep_seconds)
        assert kept < plan.warm_up_seconds < plan.seconds


def test_every_host_has_its_part() -> None:
    """A host that runs little has little to leak."""
    hosts = [f"runtime-{number}" for number in range(RUNTIMES)]
    assert {rank_hosts(DEFAULT_TENANT, name, hosts)[0] for name in (DESTINED, DYING)} == set(hosts)


def test_the_folder_of_functions_is_one_that_deploys(tmp_path: Path) -> None:
    """Both functions and the destination, as the command reads them."""
    from cli.manifest import read_manifest

    write_functions(tmp_path)
    found = {one.name: one for one in read_manifest(tmp_path)}
    assert set(found) == {DESTINED, "load-destination", DYING}
    assert (found[DESTINED].on_failure, found[DYING].on_failure) == ("load-destination", "")
    assert {found[name].maximum_retry_attempts for name in (DESTINED, DYING)} == {1}
