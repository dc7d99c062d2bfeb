"""The load's function is sized for what its events ask of it."""

from pathlib import Path

import pytest

from cli.manifest import read_manifest
from loadtest.workloads.deploy import DESTINATION, FUNCTION, Functions, write_folder
from loadtest.workloads.work import Work


def test_without_much_work_it_stays_as_it_is() -> None:
    assert Functions().sized_for(Work(sleep_ms=100.0, allocate_mib=10)) == Functions()


def test_it_gets_the_time_and_the_memory_that_it_needs() -> None:
    found = Functions().sized_for(Work(sleep_ms=100_000.0, burn_ms=1_000.0, allocate_mib=500), 50_000.0)
    assert found.timeout_seconds >= 160 and found.memory_mb >= 550
    assert Functions().sized_for(Work(), 880_000.0).timeout_seconds == 890


@pytest.mark.parametrize(
    ("work", "longest_ms", "says"),
    [
        (Work(sleep_ms=900_000.0), 0.0, "a function may run for 900 s"),
        (Work(), 899_000.0, "a function may run for 900 s"),
        (Work(allocate_mib=10_240), 0.0, "allocate_mib must be at most 10,176"),
    ],
)
def test_what_no_function_may_have_is_refused(work: Work, longest_ms: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Functions().sized_for(work, longest_ms)


@pytest.mark.parametrize("kind", ["success", "failure"])
def test_the_folder_with_a_destination_is_one_that_deploys(tmp_path: Path, kind: str) -> None:
    write_folder(tmp_path, Functions(retries=2, destination_on=kind))
    found = {one.name: one for one in read_manifest(tmp_path)}
    assert set(found) == {FUNCTION, DESTINATION} and found[FUNCTION].maximum_retry_attempts == 2
    assert (found[FUNCTION].on_success, found[FUNCTION].on_failure) == (
        (DESTINATION, "") if kind == "success" else ("", DESTINATION)
    )
