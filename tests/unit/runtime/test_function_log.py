"""A function's log on disk: the host's lines stand alone, tails are whole lines, files are bounded."""

import asyncio
from pathlib import Path

import pytest

from services.runtime import function_log
from services.runtime.function_log import FunctionLogs


@pytest.fixture
def logs(tmp_path: Path) -> FunctionLogs:
    """Of a host that keeps 64 KiB a file."""
    return FunctionLogs(tmp_path, 65_536)


async def test_a_line_of_the_host_begins_on_a_line_of_its_own(logs: FunctionLogs) -> None:
    """Whatever the handler left unfinished."""
    log = logs.of("t", "f")
    log.append(b"START\n")
    log.append_output(b"no end")
    log.append(b"END\n")
    log.append(b"REPORT\n")
    assert log.tail(10) == b"START\nno end\nEND\nREPORT\n"
    log.append_output(b"END RequestId: 1\n")
    assert log.tail(1) == b"[function] END RequestId: 1\n"
    logs.close()


async def test_what_an_earlier_start_left_unfinished_is_not_gone_on_with(tmp_path: Path) -> None:
    """A host that was killed in the middle of a line; output of the next sandbox cannot complete it."""
    first = FunctionLogs(tmp_path, 65_536)
    log = first.of("t", "f")
    log.append_output(b"REPORT Requ")
    first.close()
    again = FunctionLogs(tmp_path, 65_536)
    again.of("t", "f").append(b"START RequestId: 1\n")
    assert again.of("t", "f").tail(10) == b"REPORT Requ\nSTART RequestId: 1\n"
    again.close()


async def test_a_tail_begins_with_a_line_not_in_one(logs: FunctionLogs) -> None:
    """A carriage return does not end a line: what follows it must not come first."""
    log = logs.of("t", "f")
    log.append_output(b"one\rtwo\nthree\rEND RequestId: 1")
    assert log.tail(1) == b"three\r[function] END RequestId: 1"
    assert log.tail(2).startswith(b"one\rtwo\n") and log.tail(0) == b""
    logs.close()


async def test_few_files_are_open_however_many_functions(
    logs: FunctionLogs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that is written to again is opened again; nothing is lost."""
    monkeypatch.setattr(function_log, "MAX_OPEN_LOGS", 4)
    before = len(list(Path("/proc/self/fd").iterdir()))
    held = [logs.of("t", f"f{number}") for number in range(50)]
    for text in (b"one\n", b"two\n"):
        for log in held:
            log.append(text)
            log.flush()
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 4
    assert {log.tail(9) for log in held} == {b"one\ntwo\n"}
    logs.close()


async def test_a_log_that_nobody_holds_is_forgotten_when_it_is_written(logs: FunctionLogs) -> None:
    """Asking for names does not grow the host; a follower keeps what it follows."""
    log = logs.of("t", "f")
    followed = log.follow(log.position())
    reading = asyncio.ensure_future(anext(followed))
    await asyncio.sleep(0)
    again = logs.of("t", "f")
    assert again is log
    again.append(b"here\n")
    assert await reading == b"here\n"
    for number in range(100):
        logs.of("t", f"never{number}").tail(1)
    assert len(logs) == 1
    logs.close()
