"""`evenflow load` says in a sentence what kept it from running."""

from typing import Any

import pytest
import typer

from cli.commands import load as command
from cli.failures import CliError


def test_a_fleet_that_does_not_answer_in_time_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """TimeoutError is an OSError that says nothing."""

    async def drive(*_: Any, **__: Any) -> None:
        raise TimeoutError

    monkeypatch.setattr(command, "_drive", drive)
    with pytest.raises(CliError, match=r"^the fleet did not answer in time$"):
        command.load()


def test_no_two_runs_have_the_same_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when they begin within the same second: they may share a bucket."""
    seen: list[int] = []

    async def drive(spec: Any, *_: Any, **__: Any) -> None:
        seen.append(spec.run)
        raise TimeoutError

    monkeypatch.setattr(command, "_drive", drive)
    for _ in range(3):
        with pytest.raises(CliError):
            command.load()
    assert len(set(seen)) == 3


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"arrivals": "herd", "seconds": 5.0}, "herd with a period of 10 s does not fit"),
        ({"warm_up": 99.0}, "shorter than it"),
        ({"replay": "trace.csv", "noisy": 0.5}, "noisy tenant's part 0.5 out"),
        ({"rate": 0.0}, "^--rate must be above 0"),
        ({"seconds": 0.0}, "^--seconds must be above 0"),
        ({"fail_rate": 2.0}, "^--fail-rate must be within 0 to 1"),
        ({"pad_bytes": -1}, "^--pad-bytes must be within"),
        ({"pad_bytes": 10, "pad_bytes_max": 5}, "^--pad-bytes-max must be at least --pad-bytes, 10, not 5"),
        ({"destination_on": "x"}, "^--destination-on is success"),
        ({"in_flight": 0}, "^--in-flight must be within"),
        ({"noisy": -0.5}, "^--noisy must be at least 0"),
        ({"http_port": 1}, "go with --host"),
    ],
)
def test_options_that_do_not_go_together_are_refused(told: dict[str, Any], says: str) -> None:
    with pytest.raises(CliError, match=says):
        command.load(**told)


def test_ctrl_c_is_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def drive(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_drive", drive)
    with pytest.raises(typer.Exit) as ended:
        command.load()
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == "interrupted: nothing is reported\n"
