"""Function `index`: one catalogue line for each cleaned recording, however often and however many at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.examples.conftest import Buckets
from tests.unit.examples.podcast_kit import EXAMPLE, cleaned, destination_record, s3_event, visible

Code = dict[str, ModuleType]


def run(code: Code, event: dict[str, Any]) -> dict[str, Any]:
    """Call the handler and return its result as it would travel: through JSON."""
    result: dict[str, Any] = json.loads(json.dumps(code["index"].lambda_handler(event, None), allow_nan=False))
    return result


def catalogue(buckets: Buckets) -> list[dict[str, Any]]:
    """Return the catalogue's lines."""
    return [json.loads(line) for line in (buckets.outbox / "catalogue.jsonl").read_text("utf-8").splitlines()]


def test_a_success_gives_one_line(index_code: Code, buckets: Buckets) -> None:
    """The line holds title, duration and loudness, where audio and picture are, and is what is returned."""
    line = run(index_code, destination_record(cleaned(), "request-1"))
    assert line == {
        "title": "First light",
        "duration_seconds": 6.39,
        "loudness_lufs": -16.0,
        "audio": {"bucket": "podcast-out", "key": "cleaned/first-light.wav"},
        "picture": {"bucket": "podcast-out", "key": "waveforms/first-light.wav.png"},
        "source": {"bucket": "podcast-in", "key": "first-light.wav"},
        "cleaned_at": "2024-05-01T06:00:02.345Z",
        "request_id": "request-1",
    }
    assert catalogue(buckets) == [line]
    assert visible(buckets.outbox) == {"catalogue.jsonl", "catalogue.md", ".catalogue.lock"}


def test_the_same_record_twice_gives_one_line(index_code: Code, buckets: Buckets) -> None:
    """A repeat returns the line that is there; another request's line for the same file is another line."""
    first = run(index_code, destination_record(cleaned(), "request-1"))
    content = (buckets.outbox / "catalogue.jsonl").read_bytes()
    assert run(index_code, destination_record(cleaned(title="Changed"), "request-1")) == first
    assert (buckets.outbox / "catalogue.jsonl").read_bytes() == content
    run(index_code, destination_record(cleaned(), "request-2"))
    assert [line["request_id"] for line in catalogue(buckets)] == ["request-1", "request-2"]


def test_the_table_is_for_reading(index_code: Code, buckets: Buckets) -> None:
    """Each line is a row; what has a meaning in Markdown tables is taken from titles."""
    run(index_code, destination_record(cleaned(title="This | that\nand more"), "request-1"))
    run(index_code, destination_record(cleaned("b.wav", title="Quiet", loudness_lufs_after=None), "request-2"))
    rows = (buckets.outbox / "catalogue.md").read_text("utf-8").splitlines()
    assert rows[2] == (
        "| This \\| that and more | 6.4 s | -16.0 LUFS | cleaned/first-light.wav | waveforms/first-light.wav.png |"
    )
    assert rows[3].startswith("| Quiet | 6.4 s | silent |")
    assert len(rows) == 4


def test_several_recordings_of_one_event(index_code: Code, buckets: Buckets) -> None:
    """An event of several records gives a line for each, and a repeat of it none more."""
    record = destination_record({"recordings": [cleaned("a.wav"), cleaned("b.wav")]}, "request-1")
    lines = run(index_code, record)["lines"]
    assert [line["audio"]["key"] for line in lines] == ["cleaned/a.wav", "cleaned/b.wav"]
    assert run(index_code, record)["lines"] == lines == catalogue(buckets)


def test_no_recordings(index_code: Code, buckets: Buckets) -> None:
    """After S3's test event there is nothing to add, and no catalogue is begun."""
    assert run(index_code, destination_record({"recordings": []}, "request-1")) == {"lines": []}
    assert visible(buckets.outbox) == set()


def test_titles_of_any_script(index_code: Code, buckets: Buckets) -> None:
    """A line separator inside a title does not break the line, and letters stay readable in the file."""
    for number, title in enumerate(["Grüße", "朝の光", "a\u2028b", 'with "quotes"\nand a break']):
        run(index_code, destination_record(cleaned(f"{number}.wav", title=title), f"request-{number}"))
    text = (buckets.outbox / "catalogue.jsonl").read_text("utf-8")
    titles = [json.loads(line)["title"] for line in text.split("\n") if line]
    assert titles == ["Grüße", "朝の光", "a\u2028b", 'with "quotes"\nand a break']
    assert "朝の光" in text


@pytest.mark.parametrize(
    "event",
    [
        {},
        cleaned(),
        destination_record(cleaned(), "r", condition="RetriesExhausted"),
        destination_record(cleaned(), "r") | {"version": "2.0"},
        destination_record(None, "r"),
        destination_record({"title": "no more"}, "r"),
        destination_record(cleaned(audio="cleaned/a.wav"), "r"),
        destination_record(cleaned(duration_seconds="long"), "r"),
        destination_record({"recordings": [cleaned()] * 101}, "r"),
    ],
)
def test_other_payloads_are_refused(index_code: Code, buckets: Buckets, event: dict[str, Any]) -> None:
    """What is no success of `clean` is refused by name, and nothing is written."""
    with pytest.raises(index_code["index"].UnexpectedRecord):
        run(index_code, event)
    assert visible(buckets.outbox) == set()


def test_a_bucket_that_was_not_given(index_code: Code, buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable and the line to add to the deploy file."""
    monkeypatch.delenv("EVENFLOW_BUCKET_PODCAST_OUT")
    with pytest.raises(index_code["index"].BucketNotFound, match=r"EVENFLOW_BUCKET_PODCAST_OUT.*functions\.buckets"):
        run(index_code, destination_record(cleaned(), "request-1"))


def test_a_broken_line_is_not_written_over(index_code: Code, buckets: Buckets) -> None:
    """A catalogue that someone damaged is named with its line, and left as it is for mending."""
    path = buckets.outbox / "catalogue.jsonl"
    run(index_code, destination_record(cleaned(), "request-1"))
    path.write_text(path.read_text("utf-8") + "{half a li\n", "utf-8")
    before = path.read_bytes()
    with pytest.raises(index_code["catalogue"].CatalogueBroken, match="line 2"):
        run(index_code, destination_record(cleaned(), "request-2"))
    assert path.read_bytes() == before


def test_the_catalogue_is_bounded(index_code: Code, buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its bound the catalogue refuses one more, keeps what it has, and still answers repeats."""
    first = run(index_code, destination_record(cleaned(), "request-1"))
    path = buckets.outbox / "catalogue.jsonl"
    before = path.read_bytes()
    monkeypatch.setattr(index_code["catalogue"], "MAX_CATALOGUE_BYTES", len(before))
    with pytest.raises(index_code["catalogue"].CatalogueFull, match="move it away"):
        run(index_code, destination_record(cleaned(), "request-2"))
    assert path.read_bytes() == before
    assert run(index_code, destination_record(cleaned(), "request-1")) == first


def test_a_failed_write_leaves_the_catalogue(
    index_code: Code, buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk fails the catalogue stays whole, nothing unfinished stays, and the lock is free again."""
    run(index_code, destination_record(cleaned(), "request-1"))
    before = {name: (buckets.outbox / name).read_bytes() for name in visible(buckets.outbox)}

    def disk_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", disk_full)
        with pytest.raises(OSError, match="No space"):
            run(index_code, destination_record(cleaned(), "request-2"))
    assert {name: (buckets.outbox / name).read_bytes() for name in visible(buckets.outbox)} == before
    run(index_code, destination_record(cleaned(), "request-2"))
    assert len(catalogue(buckets)) == 2


INDEXER = """
import json, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import contextlib, io
from index import lambda_handler
print("ready", flush=True)
records = json.loads(sys.stdin.readline())
with contextlib.redirect_stdout(io.StringIO()):
    for record in records:
        lambda_handler(record, None)
"""


def index_at_once(batches: list[list[dict[str, Any]]]) -> None:
    """Run one real process a batch; all have imported the function before the first record is handed out."""
    command = [sys.executable, "-c", INDEXER, str(EXAMPLE / "index")]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in batches
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process, batch in zip(processes, batches, strict=True):
            assert process.stdin is not None
            process.stdin.write(json.dumps(batch) + "\n")
            process.stdin.flush()
        for process in processes:
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_indexers_at_once_lose_no_line(buckets: Buckets) -> None:
    """Four processes with 25 recordings each write 100 lines, and every record that all of them have once."""
    batches = [[destination_record(cleaned(f"{p}-{n}.wav"), f"request-{p}-{n}") for n in range(25)] for p in range(4)]
    shared = [destination_record(cleaned(f"shared-{n}.wav"), f"shared-{n}") for n in range(5)]
    index_at_once([shared + batch + shared for batch in batches])
    ids = [line["request_id"] for line in catalogue(buckets)]
    assert len(ids) == len(set(ids)) == 105
    assert set(ids) == {f"request-{p}-{n}" for p in range(4) for n in range(25)} | {f"shared-{n}" for n in range(5)}
    assert len((buckets.outbox / "catalogue.md").read_text("utf-8").splitlines()) == 107
    assert visible(buckets.outbox) == {"catalogue.jsonl", "catalogue.md", ".catalogue.lock"}


def test_clean_and_index_fit_together(clean_code: Code, index_code: Code, buckets: Buckets) -> None:
    """What `clean` really returns is what `index` takes, and the files that the line names are there."""
    recording = EXAMPLE / "recordings" / "first-light.wav"
    (buckets.inbox / recording.name).write_bytes(recording.read_bytes())
    response = json.loads(json.dumps(clean_code["clean"].lambda_handler(s3_event(recording.name), None)))
    line = run(index_code, destination_record(response, "request-1"))
    for part in ("audio", "picture"):
        assert (buckets.outbox / Path(line[part]["key"])).is_file()
