"""The persistence layer under the real Powertools utility: one run an event, whatever happens to the runs."""

import multiprocessing
import os
import signal
import sqlite3
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyPersistenceLayerError,
    IdempotencyValidationError,
)

from sdk.evenflow_idempotency import SqlitePersistenceLayer
from sdk.evenflow_idempotency.sqlite_layer import DEFAULT_FILE_NAME, MAX_SWEPT_ROWS

Handler = Callable[[dict[str, Any], Any], Any]


def make(folder: Path, body: Callable[[dict[str, Any]], Any], busy_seconds: float = 10.0, **config: Any) -> Handler:
    """A handler as a fresh sandbox has it: its own layer, its own configuration."""
    layer = SqlitePersistenceLayer(folder=folder, busy_seconds=busy_seconds)

    @idempotent(config=IdempotencyConfig(event_key_jmespath="id", **config), persistence_store=layer)
    def handler(event: dict[str, Any], _context: Any) -> Any:
        return body(event)

    return handler


def context(remaining_ms: int = 30_000) -> Any:
    return SimpleNamespace(get_remaining_time_in_millis=lambda: remaining_ms)


def count(folder: Path) -> int:
    with sqlite3.connect(folder / DEFAULT_FILE_NAME) as connection:
        return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])


def test_a_repeat_gets_the_first_answer_in_any_sandbox(tmp_path: Path) -> None:
    """The body runs once for each key; another key runs."""
    ran: list[Any] = []

    def body(event: dict[str, Any]) -> Any:
        ran.append(event["id"])
        return {"n": len(ran)}

    assert make(tmp_path, body)({"id": "a"}, context()) == {"n": 1}
    assert make(tmp_path, body)({"id": "a", "more": 1}, context()) == {"n": 1}
    assert make(tmp_path, body)({"id": "b"}, context()) == {"n": 2}
    assert ran == ["a", "b"]


def test_a_run_that_raised_gives_its_key_back(tmp_path: Path) -> None:
    """The retry runs."""

    def broken(_event: dict[str, Any]) -> Any:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        make(tmp_path, broken)({"id": "a"}, context())
    assert make(tmp_path, lambda _: "done")({"id": "a"}, context()) == "done"


def test_a_repeat_during_the_first_run_is_refused(tmp_path: Path) -> None:
    """The utility's own error, which the queue tries again after."""

    def body(_event: dict[str, Any]) -> Any:
        with pytest.raises(IdempotencyAlreadyInProgressError):
            make(tmp_path, lambda _: "second")({"id": "a"}, context())
        return "first"

    assert make(tmp_path, body)({"id": "a"}, context()) == "first"


def test_a_run_that_never_ended_holds_its_key_for_its_time_only(tmp_path: Path) -> None:
    """Its time was over when the next attempt comes: that one runs, and its record is the one that stays."""

    def overtaken(_event: dict[str, Any]) -> Any:
        assert make(tmp_path, lambda _: "second")({"id": "a"}, context()) == "second"
        return "first"

    # A run without time left that goes on all the same.
    assert make(tmp_path, overtaken)({"id": "a"}, context(-1)) == "first"
    assert make(tmp_path, lambda _: "third")({"id": "a"}, context()) == "second"


def test_an_overtaken_run_that_raises_leaves_the_later_record(tmp_path: Path) -> None:
    """Else the effect of the later one would happen again."""

    def overtaken(_event: dict[str, Any]) -> Any:
        make(tmp_path, lambda _: "second")({"id": "a"}, context())
        raise RuntimeError("late")

    with pytest.raises(RuntimeError):
        make(tmp_path, overtaken)({"id": "a"}, context(-1))
    assert make(tmp_path, lambda _: "third")({"id": "a"}, context()) == "second"


def test_records_end_and_are_swept(tmp_path: Path) -> None:
    """After expires_after_seconds a repeat runs; each put takes a bounded number of old rows away."""
    for n in range(MAX_SWEPT_ROWS + 3):
        make(tmp_path, lambda _: "old", expires_after_seconds=-10)({"id": n}, context())
    # Each put swept what was there before it.
    assert count(tmp_path) == 1
    assert make(tmp_path, lambda _: "new")({"id": MAX_SWEPT_ROWS + 2}, context()) == "new"
    assert make(tmp_path, lambda _: "newer")({"id": MAX_SWEPT_ROWS + 2}, context()) == "new"


def test_another_payload_under_the_same_key_is_refused(tmp_path: Path) -> None:
    """The utility's payload validation, against what is stored."""
    handler = make(tmp_path, lambda _: "done", payload_validation_jmespath="amount")
    assert handler({"id": "a", "amount": 1}, context()) == "done"
    again = make(tmp_path, lambda _: "done", payload_validation_jmespath="amount")
    assert again({"id": "a", "amount": 1}, context()) == "done"
    with pytest.raises(IdempotencyValidationError):
        again({"id": "a", "amount": 2}, context())


def _book(folder: str, start: Any, outcomes: Any) -> None:
    def body(event: dict[str, Any]) -> Any:
        with open(Path(folder) / "book", "a") as book:
            book.write(f"{event['id']}\n")
        return os.getpid()

    handler = make(Path(folder), body)
    start.wait(20)
    for n in range(6):
        try:
            handler({"id": n}, context())
        except IdempotencyAlreadyInProgressError:
            outcomes.put("busy")


def test_many_sandboxes_at_once_book_each_event_once(tmp_path: Path) -> None:
    """Four processes, the same six events each, an empty folder: six lines."""
    spawn = multiprocessing.get_context("spawn")
    start, outcomes = spawn.Event(), spawn.Queue()
    processes = [spawn.Process(target=_book, args=(str(tmp_path), start, outcomes)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4
    assert sorted((tmp_path / "book").read_text().split()) == [str(n) for n in range(6)]


def _die_in_the_body(folder: str) -> None:
    make(Path(folder), lambda _: os.kill(os.getpid(), signal.SIGKILL))({"id": "a"}, context(-1))


def test_a_sandbox_that_is_killed_leaves_a_table_that_works(tmp_path: Path) -> None:
    """And its key until its time would have been over, which is now."""
    process = multiprocessing.get_context("spawn").Process(target=_die_in_the_body, args=(str(tmp_path),))
    process.start()
    process.join(20)
    assert process.exitcode == -signal.SIGKILL
    assert count(tmp_path) == 1
    assert make(tmp_path, lambda _: "done")({"id": "a"}, context()) == "done"


def test_threads_of_one_sandbox_share_a_layer(tmp_path: Path) -> None:
    """Each operation has a connection of its own."""
    ran: list[int] = []
    handler = make(tmp_path, lambda event: ran.append(event["id"]))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: handler({"id": n}, context()), range(12)))
    assert sorted(ran) == list(range(12))


def test_a_table_that_is_locked_fails_the_run_before_it_begins(tmp_path: Path) -> None:
    """Rather tried again than run unprotected."""
    make(tmp_path, lambda _: "made")({"id": "first"}, context())
    blocker = sqlite3.connect(tmp_path / DEFAULT_FILE_NAME, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    ran: list[int] = []
    with pytest.raises(IdempotencyPersistenceLayerError, match="locked"):
        make(tmp_path, lambda _: ran.append(1), busy_seconds=0.01)({"id": "a"}, context())
    blocker.close()
    assert not ran


def test_every_sandboxs_user_may_write_the_file(tmp_path: Path) -> None:
    """Sandboxes have umask 0 where each has a user of its own."""
    before = os.umask(0)
    try:
        make(tmp_path, lambda _: "x")({"id": "a"}, context())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / DEFAULT_FILE_NAME).stat().st_mode) == 0o666


def test_a_bucket_is_found_and_one_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the variable that sandboxes have; the error says what the deploy file needs."""
    monkeypatch.setenv("EVENFLOW_BUCKET_MY_BUCKET", str(tmp_path))
    layer = SqlitePersistenceLayer(bucket="my-bucket")

    @idempotent(config=IdempotencyConfig(event_key_jmespath="id"), persistence_store=layer)
    def handler(_event: Any, _context: Any) -> Any:
        return "done"

    assert handler({"id": "a"}, context()) == "done"
    monkeypatch.setenv("EVENFLOW_BUCKET_MY_BUCKET", str(tmp_path / "gone"))
    with pytest.raises(IdempotencyPersistenceLayerError, match=r'access = "write"'):
        handler({"id": "b"}, context())
    with pytest.raises(ValueError, match="a bucket, or a folder"):
        SqlitePersistenceLayer()
