"""Log lines and error texts as AWS writes them; log files rotate and are followed."""

import asyncio
from pathlib import Path

import pytest

from services.runtime import log_lines
from services.runtime.function_log import FunctionLog, FunctionLogs


def test_report_line() -> None:
    """Tabs, two decimals, init only when there was one."""
    text = log_lines.end_and_report("r", 1_234, 2, 128, 30, 10_000).decode()
    assert text == (
        "END RequestId: r\nREPORT RequestId: r\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 30 MB\tInit Duration: 10.00 ms\t\n"
    )
    assert "Init" not in log_lines.end_and_report("r", 1, 1, 128, 30, 0).decode()


@pytest.mark.parametrize(("duration_us", "billed"), [(0, 1), (1, 1), (1_000, 1), (1_001, 2)])
def test_billing_rounds_up(duration_us: int, billed: int) -> None:
    """At least one millisecond."""
    assert log_lines.billed_ms_of(duration_us) == billed


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (None, "Runtime exited without providing a reason"),
        (-1, "Runtime exited without providing a reason"),
        (0, "Runtime exited without providing a reason"),
        (3 << 8, "Runtime exited with error: exit status 3"),
        (9, "Runtime exited with error: signal: killed"),
        (11 | 0x80, "Runtime exited with error: signal: segmentation fault"),
        (50, "Runtime exited with error: signal: signal 50"),
    ],
)
def test_exit_texts(status: int | None, text: str) -> None:
    """Each way to end, real-time signals too."""
    assert log_lines.exit_text(status) == text


async def test_a_full_log_is_rotated_and_the_tail_spans_both_files(tmp_path: Path) -> None:
    """Two files at most, of bounded size."""
    log = FunctionLog(tmp_path / "t" / "f.log", 100)
    for number in range(30):
        log.append(f"line {number}\n".encode())
        log.flush()
    files = sorted(path.name for path in (tmp_path / "t").iterdir())
    assert files == ["f.log", "f.log.1"]
    assert all(path.stat().st_size <= 100 for path in (tmp_path / "t").iterdir())
    assert log.tail(13).decode().splitlines() == [f"line {n}" for n in range(17, 30)]
    assert log.tail(0) == b""


async def test_followers_see_what_comes_over_a_rotation(tmp_path: Path) -> None:
    """Nothing is lost between two files."""
    log = FunctionLog(tmp_path / "f.log", 100)
    log.append(b"before\n")
    follower = log.follow(log.position())
    first = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)
    log.append(b"a" * 60 + b"\n")
    log.flush()
    text = await first
    log.append(b"b" * 60 + b"\n")
    log.flush()
    while b"b" not in text:
        text += await anext(follower)
    assert text == b"a" * 60 + b"\n" + b"b" * 60 + b"\n"


def test_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    """Only names of tenants and functions make a path."""
    with pytest.raises(ValueError, match="1 to 64"):
        FunctionLogs(tmp_path, 100).of("..", "f")
