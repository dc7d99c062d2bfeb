"""The JSON comes back as it was, keeps no secret, and others are refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.plan.files import PlanFileError, as_text, from_text, load, publishable
from loadtest.plan.findings import Findings, conclude
from loadtest.plan.measured import Measured


def test_it_round_trips_exactly(measured: Measured, findings: Findings) -> None:
    assert from_text(as_text(measured, findings)) == (measured, findings)


def test_no_key_and_no_folder_of_the_machine_is_written(measured: Measured, findings: Findings) -> None:
    traffic = replace(measured.spec.traffic, replay="/home/someone/azure.csv")
    spec = replace(measured.spec, keys=("EF1:secret",), records="/tmp/records", traffic=traffic)
    text = as_text(replace(measured, spec=spec), findings)
    assert not any(word in text for word in ("secret", "/tmp", "/home"))
    assert publishable(replace(measured, spec=spec)).spec.traffic.replay == "azure.csv"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"format": 1}', "format is 1, this version reads 2"),
        ("[]", "format is None"),
        ("nonsense", "not JSON"),
        ('{"format": 2, "measured": {}}', "no plan of"),
    ],
)
def test_something_else_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(PlanFileError, match=says) as refused:
        load(path)
    assert str(path) in str(refused.value)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanFileError, match="cannot be read"):
        load(tmp_path / "absent.json")


def test_a_plan_of_nothing_is_written_and_read(measured: Measured) -> None:
    nothing = replace(measured, runs=(), drain=None)
    assert from_text(as_text(nothing, conclude(nothing))) == (nothing, conclude(nothing))
