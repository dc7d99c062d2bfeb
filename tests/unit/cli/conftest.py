"""Runs commands in this process."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from cli.app import main


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def evenflow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """`evenflow("deploy", "x")` runs the command as the script does."""

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["evenflow", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        captured = capsys.readouterr()
        return Done(code if isinstance(code, int) else 1, captured.out, captured.err)

    return run
