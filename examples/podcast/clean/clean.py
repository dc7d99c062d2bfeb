"""Cleans a recording that was put into a bucket: trims its silence, sets its loudness, draws its waveform.

A Lambda function for S3's "object created" events. It writes `cleaned/<key>` and `waveforms/<key>.png` to the
bucket that the environment variable `OUTPUT_BUCKET` names. An event may be delivered more than once: a repeat
writes the same two files again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote_plus

from buckets import ObjectNotFound, bucket_folder, object_path, write_object
from level import FULL_SCALE, levelled
from loudness import integrated_lufs, peak_dbfs
from picture import waveform_png
from trim import sounding_span
from wav import Recording, read_wav, wav_bytes

MAX_RECORDS = 100
"""Most objects in one event; S3 itself sends one."""


class UnexpectedEvent(ValueError):
    """The payload is no S3 event that tells of created objects."""


def lambda_handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Clean every recording that the S3 event names, and tell what became of it.

    Returns one recording's facts for an event of one record, and `{"recordings": [...]}` for any other number
    (none for the `s3:TestEvent` that S3 sends when a notification is set up). The first recording that cannot
    be cleaned fails the event with a typed error: `NotAWavFile`, `UnsupportedWav`, `RecordingTooLarge`,
    `ObjectNotFound`, `UnsafeKey`, `BucketNotFound` or `UnexpectedEvent`.
    """
    if event.get("Event") == "s3:TestEvent":
        return {"recordings": []}
    objects = created_objects(event)
    results = [clean_object(bucket, key) for bucket, key in objects]
    return results[0] if len(results) == 1 else {"recordings": results}


def created_objects(event: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the (bucket, key) pairs of an S3 event, keys decoded; raises `UnexpectedEvent`.

    A repeated pair is named once: the object is the same.
    """
    records = event.get("Records")
    if not isinstance(records, list) or not 1 <= len(records) <= MAX_RECORDS:
        raise UnexpectedEvent(f"no S3 event: 'Records' must be a list of 1 to {MAX_RECORDS} records")
    objects: dict[tuple[str, str], None] = {}
    for record in records:
        try:
            name = record["eventName"]
            bucket = record["s3"]["bucket"]["name"]
            key = unquote_plus(record["s3"]["object"]["key"], errors="strict")
        except (AttributeError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise UnexpectedEvent(f"no S3 record: {type(error).__name__}: {error}") from error
        if not str(name).startswith("ObjectCreated:"):
            raise UnexpectedEvent(f"the record tells of {name!r}, this function is for ObjectCreated:*")
        objects[(bucket, key)] = None
    return list(objects)


def clean_object(bucket: str, key: str) -> dict[str, Any]:
    """Clean one recording and return its facts; durations in seconds, loudness null for silence."""
    path = object_path(bucket_folder(bucket), key)
    output_bucket = os.environ.get("OUTPUT_BUCKET", "podcast-out")
    output = bucket_folder(output_bucket)
    # The whole key stays in both names, ".wav" too: two objects of one bucket can then never write to one
    # place.
    audio_key, picture_key = f"cleaned/{key}", f"waveforms/{key}.png"
    try:
        recording = read_wav(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ObjectNotFound(f"there is no object {key!r} in bucket {bucket!r} (any more)") from error

    before_lufs = integrated_lufs(recording.channels, recording.sample_rate_hz)
    kept = sounding_span(recording)
    trimmed = Recording(recording.sample_rate_hz, [channel[kept.begin : kept.end] for channel in recording.channels])
    result = levelled(trimmed.channels, recording.sample_rate_hz, before_lufs)
    picture = waveform_png(recording.channels, result.channels, kept, result.gain_db, recording.sample_rate_hz)

    write_object(output, audio_key, wav_bytes(result.channels, recording.sample_rate_hz))
    write_object(output, picture_key, picture)
    facts: dict[str, Any] = {
        "title": title_of(key),
        "source": {"bucket": bucket, "key": key},
        "audio": {"bucket": output_bucket, "key": audio_key},
        "picture": {"bucket": output_bucket, "key": picture_key},
        "duration_seconds": round(trimmed.duration_seconds, 3),
        "trimmed_seconds": round(recording.duration_seconds - trimmed.duration_seconds, 3),
        "loudness_lufs_before": _tenths(before_lufs),
        "loudness_lufs_after": _tenths(result.loudness_lufs),
        "peak_dbfs": _tenths(peak_dbfs(result.channels, FULL_SCALE)),
        "sample_rate_hz": recording.sample_rate_hz,
        "channels": len(recording.channels),
    }
    print(
        f"cleaned {key!r}: {facts['duration_seconds']} s kept, {facts['trimmed_seconds']} s trimmed, "
        f"{facts['loudness_lufs_before']} -> {facts['loudness_lufs_after']} LUFS, "
        f"peak {facts['peak_dbfs']} dBFS"
    )
    return facts


def title_of(key: str) -> str:
    """Return a readable title for an object key: `shows/first-light.wav` is "First light"."""
    words = PurePosixPath(key).stem.replace("-", " ").replace("_", " ").split()
    title = " ".join(words) or key
    return title[0].upper() + title[1:]


def _tenths(decibels: float | None) -> float | None:
    return None if decibels is None else round(decibels, 1)
