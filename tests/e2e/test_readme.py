"""README.md keeps its word: every command and snippet in it runs on a real fleet."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.fleet import Fleet, run_cli

pytestmark = pytest.mark.fleet
README = Path(__file__).parents[2] / "README.md"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TABLE_ROW = re.compile(r"^\|.*`evenflow .*$", re.MULTILINE)
_COMMAND = re.compile(r"`(evenflow [^`]+)`")
_UP = re.compile(r"`evenflow up ([^`]*)`")
_SHELL = re.compile(r"(mkdir|cp|curl|make|evenflow|\.venv/bin/\w+) ")
# `make run` is the demo (tests/e2e/test_demo.py) without its end; `make test` is this run.
NOT_HERE = {"make run", "make test"}
BLOCK_SECONDS = 50


def blocks() -> list[tuple[str, str]]:
    """(language, text) of every fenced block that is a command or a program; pictures and figures are not."""
    found = [(language, text.strip()) for language, text in _FENCE.findall(README.read_text(encoding="utf-8"))]
    return [
        (language, text)
        for language, text in found
        if text not in NOT_HERE and (language in ("python", "sh", "bash", "console") or _SHELL.match(text))
    ]


def adapt(text: str, fleet: Fleet) -> str:
    """The same commands on this fleet's ports, with this installation's script."""
    here = Path(sys.executable).parent
    text = text.replace("127.0.0.1:9000", f"127.0.0.1:{fleet.http_port}")
    text = text.replace("127.0.0.1:9001", f"127.0.0.1:{fleet.grpc_port}")
    for script in ("evenflow", "locust"):
        text = text.replace(f".venv/bin/{script}", str(here / script))
    text = text.replace("loadtest/locustfile.py", str(README.parent / "loadtest" / "locustfile.py"))
    # The reader's own AWS CLI.
    return re.sub(r"^aws ", f"{here / 'aws'} ", text, flags=re.MULTILINE)


def run_block(language: str, text: str, fleet: Fleet, folder: Path) -> str:
    """Run it as a reader would; its output. AssertionError: it failed."""
    command = [sys.executable, "-c", text] if language == "python" else ["bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env={**os.environ, "EVENFLOW_DATA": str(fleet.data)},
        capture_output=True,
        text=True,
        timeout=BLOCK_SECONDS,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(150)
def test_every_block_runs_in_order_and_every_command_of_the_table_too(fleet: Fleet, tmp_path: Path) -> None:
    """Deploy and invoke, boto3, gRPC; then each `evenflow ...` that the page names."""
    found = blocks()
    languages = [language for language, _ in found]
    assert languages.count("python") == 2 and len(languages) > 2
    output = "\n".join(run_block(language, adapt(text, fleet), fleet, tmp_path) for language, text in found)
    assert '"hello": "you"' in output
    (request_id,) = re.findall(r"^202 ([0-9a-f-]{36})$", output, re.MULTILINE)
    assert "1000 accepted, the first is" in output
    fleet.wait_drained()

    commands = set(_COMMAND.findall("\n".join(_TABLE_ROW.findall(README.read_text(encoding="utf-8")))))
    assert len(commands) >= 8
    for command in sorted(commands):
        arguments = command.split()[1:]
        if arguments[0] == "up":
            continue
        arguments = [request_id if word == "ID" else word for word in arguments]
        if arguments[0] == "top":
            # Live until Ctrl-C on a terminal.
            arguments.append("--once")
        if arguments[0] == "logs":
            arguments.remove("-f")
        done = run_cli(*arguments, data=fleet.data, cwd=tmp_path)
        assert done.returncode == 0 and done.stdout.strip(), f"{command}: {done.stderr}"


def test_the_settings_that_the_page_names_exist() -> None:
    """`evenflow up --set KEY=VALUE` of the page is taken by `up`."""
    from cli.supervisor.options import parse_settings

    named = [options.split()[1] for options in _UP.findall(README.read_text(encoding="utf-8")) if "--set" in options]
    assert named
    for text in named:
        assert parse_settings([text])
