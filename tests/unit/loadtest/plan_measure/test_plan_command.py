"""`evenflow plan` refuses what cannot be, before a fleet is started."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.app import app
from cli.failures import CliError


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
        (["--fleet", "/nowhere"], "no fleet is running"),
        (["--skew", "sideways"], "--skew sideways"),
        (["--rate", "100"], "--rate is for --confirm"),
        (["--confirm", "absent.json"], "--confirm needs --rate"),
        (["--confirm", "absent.json", "--rate", "100"], "absent.json: cannot be read"),
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
    assert "\n" not in done.exception.message
    assert not done.stdout and not list(tmp_path.iterdir())
