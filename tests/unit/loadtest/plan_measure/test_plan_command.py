"""`evenflow plan` refuses what cannot be, before a fleet is started."""

import asyncio
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from cli import plan_modes
from cli.app import app
from cli.failures import CliError
from loadtest.arrivals.arrivals import TooMany
from loadtest.open_loop.spec import LoadSpec
from loadtest.plan import files
from loadtest.plan.rig import FleetAsked, PlanError, Rig
from loadtest.plan.runner import Runner
from tests.unit.loadtest.plan.known_fleet import KnownFleet


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--door", "smoke"], "is no door"),
        (["--start-rate", "0"], "start rate"),
        (["--start-rate", "50", "--max-rate", "10"], "highest rate"),
        (["--run-seconds", "0"], "--run-seconds must be within"),
        (["--callers", "two"], "--callers two: whole numbers"),
        (["--set", "poller.max_leases=lots"], "poller.max_leases"),
        (["--fleet", "/nowhere", "--runtimes", "2"], "--fleet measures a fleet as it runs"),
        (["--target-rate", "0"], "--target-rate: a rate is above 0"),
        ([word for rate in range(1, 52) for word in ("--target-rate", str(rate))], "at most 50 target rates"),
        (["--core-hour-price", "-1"], "a price is at least 0"),
        (["--run-seconds", "0.9"], "--run-seconds must be within 1"),
        (["--confirm", "absent.json", "--rate", "100", "--shards", "2"], "--shards does not apply to --confirm"),
        (["--compare", "absent.json", "other.json", "--quick"], "--quick does not apply to --compare"),
        (["--confirm", "absent.json", "--rate", "100", "--out", "plan.pdf"], "ends with .html"),
        (["--fleet", "/nowhere"], "no fleet is running"),
        (["--skew", "sideways"], "--skew sideways"),
        (["--rate", "100"], "--rate is for --confirm"),
        (["--confirm", "absent.json"], "--confirm needs --rate"),
        (["--confirm", "absent.json", "--rate", "100"], "absent.json: cannot be read: No such file or directory"),
        (["--compare", "absent.json", "other.json"], "absent.json: cannot be read"),
        (["--out", "/nowhere/plan.html"], "there is no folder"),
        (["--out", "plan.pdf"], "ends with .html"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    """One sentence that says what to do; nothing is printed or written."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["plan", *arguments])
    assert isinstance(done.exception, CliError)
    assert words in done.exception.message
    assert "\n" not in done.exception.message and done.exception.message.count("absent.json") <= 1
    assert not done.stdout and not list(tmp_path.iterdir())


class Unavailable(grpc.RpcError):
    """As a node that is gone."""

    def code(self) -> grpc.StatusCode:
        """UNAVAILABLE."""
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        """In words."""
        return "gone"

    def trailing_metadata(self) -> tuple[()]:
        """None."""
        return ()


@pytest.mark.parametrize(
    ("failure", "exit_code"),
    [
        (KeyboardInterrupt(), 130),
        (CliError("no", 2), 2),
        (PlanError("no"), 1),
        (ValueError("no"), 1),
        (OSError(28, "no space left on device"), 1),
        (Unavailable(), 1),
    ],
)
def test_whatever_ends_a_plan_what_was_measured_is_kept(tmp_path: Path, failure: BaseException, exit_code: int) -> None:
    """Ctrl-C while policies are compared, a node that is gone, a disk that is full: the runs can be loaded."""
    known = KnownFleet(seconds=4.0, warm_up_seconds=0.5)
    measured = replace(known.measured((), 200.0, repeats=1, callers=()), drain=None)
    out = tmp_path / "plan.html"
    with pytest.raises(CliError) as told, plan_modes.keeping(lambda: measured, out):
        raise failure
    assert told.value.exit_code == exit_code and "\n" not in told.value.message
    assert "the 2 runs so far are in" in told.value.message
    assert files.load(tmp_path / "plan.partial.json")[0] == files.publishable(measured)


def test_a_fault_of_ours_keeps_the_runs_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), plan_modes.keeping(lambda: None, tmp_path / "plan.html"):
        raise ZeroDivisionError


@pytest.mark.parametrize("failure", [ValueError("no such shape"), TooMany("too many"), OSError("no disk")])
def test_a_load_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """As a PlanError, which the command tells in one line."""

    async def broken(*_: object, **__: object) -> None:
        raise failure

    known = KnownFleet()
    monkeypatch.setattr("loadtest.plan.runner.open_loop.run", broken)
    runner = Runner(Rig(FleetAsked()), known.spec, known.objective, tmp_path)
    with pytest.raises(PlanError, match=str(failure)):
        asyncio.run(runner.drive(LoadSpec("127.0.0.1", 1, 1)))
