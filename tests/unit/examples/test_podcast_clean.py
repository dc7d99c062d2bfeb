"""Function `clean`, called as the runtime calls it, on real files in real folders."""

from __future__ import annotations

import io
import json
import os
import time
import wave
from array import array
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.examples.conftest import Buckets
from tests.unit.examples.podcast_kit import EXAMPLE, flat, s3_event, silence, sine, visible, wav_file

Code = dict[str, ModuleType]
RATE_HZ = 16_000
RECORDING = EXAMPLE / "recordings" / "first-light.wav"


def speechlike() -> list[float]:
    """Return a second of silence, one of a quiet tone, and half a second of silence."""
    return flat([silence(1, RATE_HZ), sine(440, -30, 1, RATE_HZ), silence(0.5, RATE_HZ)])


def run(code: Code, event: dict[str, Any]) -> dict[str, Any]:
    """Call the handler and return its result as it would travel: through JSON."""
    result: dict[str, Any] = json.loads(json.dumps(code["clean"].lambda_handler(event, None), allow_nan=False))
    return result


def test_the_shipped_recording(clean_code: Code, buckets: Buckets) -> None:
    """The recording is trimmed, comes to -16 LUFS under -1 dBFS, and takes 3 s of CPU time at most."""
    (buckets.inbox / "first-light.wav").write_bytes(RECORDING.read_bytes())
    began = time.process_time()
    result = run(clean_code, s3_event("first-light.wav"))
    assert time.process_time() - began <= 3.0

    with wave.open(str(RECORDING)) as source:
        source_seconds = source.getnframes() / source.getframerate()
    assert result["title"] == "First light"
    assert result["source"] == {"bucket": "podcast-in", "key": "first-light.wav"}
    assert result["audio"] == {"bucket": "podcast-out", "key": "cleaned/first-light.wav"}
    assert result["picture"] == {"bucket": "podcast-out", "key": "waveforms/first-light.wav.png"}
    assert result["loudness_lufs_before"] < -30
    assert result["loudness_lufs_after"] == pytest.approx(-16.0, abs=0.1)
    assert -1.1 <= result["peak_dbfs"] <= -1.0
    assert result["trimmed_seconds"] > 2
    assert result["duration_seconds"] + result["trimmed_seconds"] == pytest.approx(source_seconds, abs=0.002)
    assert (result["sample_rate_hz"], result["channels"]) == (16_000, 1)
    assert visible(buckets.outbox) == {"cleaned/first-light.wav", "waveforms/first-light.wav.png"}
    with wave.open(str(buckets.outbox / "cleaned/first-light.wav")) as audio:
        assert (audio.getnchannels(), audio.getsampwidth(), audio.getframerate()) == (1, 2, 16_000)
        assert audio.getnframes() / 16_000 == pytest.approx(result["duration_seconds"], abs=0.001)


def test_what_was_written_measures_as_reported(clean_code: Code, buckets: Buckets) -> None:
    """The figures are those of the file, not of numbers on the way to it."""
    (buckets.inbox / "a.wav").write_bytes(wav_file([speechlike()], RATE_HZ))
    result = run(clean_code, s3_event("a.wav"))
    recording = clean_code["wav"].read_wav(buckets.outbox / result["audio"]["key"])
    lufs = clean_code["loudness"].integrated_lufs(recording.channels, RATE_HZ)
    assert lufs == pytest.approx(-16.0, abs=0.1)
    assert lufs == pytest.approx(result["loudness_lufs_after"], abs=0.06)


@pytest.mark.parametrize("kind", ["u8", "s24", "s32", "f32"])
def test_stereo_and_other_formats(clean_code: Code, buckets: Buckets, kind: str) -> None:
    """Any format comes out as 16-bit of the same rate and channels, at the same loudness."""
    left = speechlike()
    (buckets.inbox / "a.wav").write_bytes(wav_file([left, [x / 2 for x in left]], RATE_HZ, kind))
    result = run(clean_code, s3_event("a.wav"))
    assert (result["channels"], result["sample_rate_hz"]) == (2, RATE_HZ)
    assert result["loudness_lufs_after"] == pytest.approx(-16.0, abs=0.1)
    assert result["duration_seconds"] == pytest.approx(1.35, abs=0.03)
    with wave.open(str(buckets.outbox / "cleaned/a.wav")) as audio:
        assert (audio.getnchannels(), audio.getsampwidth()) == (2, 2)


def test_the_same_event_twice_gives_the_same_files(clean_code: Code, buckets: Buckets) -> None:
    """An event delivered again changes no byte and leaves nothing beside."""
    (buckets.inbox / "a.wav").write_bytes(wav_file([speechlike()], RATE_HZ))
    first = run(clean_code, s3_event("a.wav"))
    files = {name: (buckets.outbox / name).read_bytes() for name in visible(buckets.outbox)}
    assert run(clean_code, s3_event("a.wav")) == first
    assert {name: (buckets.outbox / name).read_bytes() for name in visible(buckets.outbox)} == files
    assert len(files) == 2


def test_a_failed_write_leaves_what_was_there(
    clean_code: Code, buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk fails in the middle the old file stays whole and no unfinished one stays beside it."""
    (buckets.inbox / "a.wav").write_bytes(wav_file([speechlike()], RATE_HZ))
    (buckets.outbox / "cleaned").mkdir()
    (buckets.outbox / "cleaned/a.wav").write_bytes(b"older")

    def disk_full(_: int) -> None:
        (unfinished,) = (name for name in visible(buckets.outbox) if name != "cleaned/a.wav")
        assert Path(unfinished).name.startswith("."), "a watcher of the bucket must not see it"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space"):
        run(clean_code, s3_event("a.wav"))
    assert visible(buckets.outbox) == {"cleaned/a.wav"}
    assert (buckets.outbox / "cleaned/a.wav").read_bytes() == b"older"


def test_several_records(clean_code: Code, buckets: Buckets) -> None:
    """Every object of the event is cleaned, one that is named twice once; results keep their order."""
    for name in ("a.wav", "b.wav"):
        (buckets.inbox / name).write_bytes(wav_file([speechlike()], RATE_HZ))
    result = run(clean_code, s3_event("b.wav", "a.wav", "b.wav"))
    assert [recording["title"] for recording in result["recordings"]] == ["B", "A"]
    assert visible(buckets.outbox) == {
        "cleaned/a.wav",
        "cleaned/b.wav",
        "waveforms/a.wav.png",
        "waveforms/b.wav.png",
    }


@pytest.mark.parametrize(
    ("key", "encoded", "title"),
    [
        ("shows/first light.wav", "shows/first+light.wav", "First light"),
        ("1+1 = 2.wav", "1%2B1+%3D+2.wav", "1+1 = 2"),
        ("Grüße_an-alle.wav", "Gr%C3%BC%C3%9Fe_an-alle.wav", "Grüße an alle"),
        ("100%25.wav", "100%2525.wav", "100%25"),
    ],
)
def test_keys_are_url_encoded(clean_code: Code, buckets: Buckets, key: str, encoded: str, title: str) -> None:
    """S3 encodes keys as a form does: `+` is a space, and a plus is `%2B`; they are decoded once."""
    path = buckets.inbox / key
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(wav_file([speechlike()], RATE_HZ))
    event = s3_event(key)
    assert event["Records"][0]["s3"]["object"]["key"] == encoded
    result = run(clean_code, event)
    assert (result["source"]["key"], result["title"]) == (key, title)
    assert visible(buckets.outbox) == {f"cleaned/{key}", f"waveforms/{key}.png"}


@pytest.mark.parametrize(
    "key", ["../secret.wav", "/etc/passwd", "a/../../b", "a/../b", "", "a//b", "./a", "x" * 1025, "a\0b"]
)
def test_keys_cannot_leave_the_bucket(clean_code: Code, buckets: Buckets, key: str) -> None:
    """A key that climbs out is refused before anything is read, even where a file is there."""
    (buckets.inbox.parent / "secret.wav").write_bytes(wav_file([speechlike()], RATE_HZ))
    with pytest.raises(clean_code["buckets"].UnsafeKey):
        run(clean_code, s3_event(key))
    assert visible(buckets.outbox) == set()


def test_links_cannot_leave_the_bucket(clean_code: Code, buckets: Buckets) -> None:
    """A symbolic link to a file outside is refused."""
    outside = buckets.inbox.parent / "secret.wav"
    outside.write_bytes(wav_file([speechlike()], RATE_HZ))
    (buckets.inbox / "a.wav").symlink_to(outside)
    with pytest.raises(clean_code["buckets"].UnsafeKey, match="symbolic link"):
        run(clean_code, s3_event("a.wav"))


def test_a_file_that_is_no_wav_fails_the_event(clean_code: Code, buckets: Buckets) -> None:
    """The typed error names the object, what it is and what to do; nothing is written."""
    (buckets.inbox / "notes.txt").write_text("not a sound")
    with pytest.raises(clean_code["wav"].NotAWavFile, match=r"notes\.txt is no WAV file but text .*ffmpeg"):
        run(clean_code, s3_event("notes.txt"))
    assert visible(buckets.outbox) == set()


def test_an_object_that_is_gone(clean_code: Code, buckets: Buckets) -> None:
    """Deleted between the event and its turn: told as such, for a folder of that name as well."""
    (buckets.inbox / "folder").mkdir()
    for key in ("gone.wav", "folder"):
        with pytest.raises(clean_code["buckets"].ObjectNotFound, match="any more"):
            run(clean_code, s3_event(key))


def test_a_bucket_that_was_not_given(clean_code: Code, buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the bucket, the variable, and the line to add to the deploy file."""
    monkeypatch.delenv("EVENFLOW_BUCKET_PODCAST_IN")
    with pytest.raises(clean_code["buckets"].BucketNotFound, match=r"EVENFLOW_BUCKET_PODCAST_IN.*functions\.buckets"):
        run(clean_code, s3_event("a.wav"))


def test_silence_is_cleaned_too(clean_code: Code, buckets: Buckets) -> None:
    """A silent file is kept whole; what has no value in decibels is null, which JSON can hold."""
    (buckets.inbox / "quiet.wav").write_bytes(wav_file([silence(1, RATE_HZ)], RATE_HZ))
    result = run(clean_code, s3_event("quiet.wav"))
    assert (result["duration_seconds"], result["trimmed_seconds"]) == (1.0, 0.0)
    assert (result["loudness_lufs_before"], result["loudness_lufs_after"], result["peak_dbfs"]) == (
        None,
        None,
        None,
    )


def test_s3s_test_event_is_taken(clean_code: Code, buckets: Buckets) -> None:
    """S3 sends it first when a notification is set up; it has no records."""
    event = {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": "2024-05-01T06:00:00.000Z",
        "Bucket": "podcast-in",
    }
    assert run(clean_code, event) == {"recordings": []}


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"Records": []},
        {"Records": {}},
        {"Records": [{}]},
        {"Records": [None]},
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": 7}}}]},
        s3_event("a.wav", name="ObjectRemoved:Delete"),
        s3_event(*["a.wav"] * 101),
    ],
)
def test_other_events_are_refused(clean_code: Code, buckets: Buckets, event: dict[str, Any]) -> None:
    """What is no S3 event about created objects, or has too many records, is refused by name."""
    with pytest.raises(clean_code["clean"].UnexpectedEvent):
        run(clean_code, event)


def test_written_wav_is_read_back_by_the_standard_library(clean_code: Code) -> None:
    """The writer's header and interleaving are right for a reader that is not ours."""
    content = clean_code["wav"].wav_bytes([array("h", [1, 2, 3]), array("h", [-1, -2, -3])], 8_000)
    with wave.open(io.BytesIO(content)) as audio:
        assert audio.getparams()[:4] == (2, 2, 8_000, 3)
        assert array("h", audio.readframes(3)).tolist() == [1, -1, 2, -2, 3, -3]
