"""Adds a cleaned recording to the catalogue, in the bucket that the variable `CATALOGUE_BUCKET` names.

A Lambda function, run as the on-success destination of `clean`: its event is the destination record, in which
`responsePayload` is what `clean` returned. The same record may come more than once and gives one line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catalogue import add_entries

MAX_RECORDINGS = 100
"""Most recordings in one record: as many as `clean` takes in one event."""


class UnexpectedRecord(Exception):
    """The payload is no destination record of a successful `clean`."""


class BucketNotFound(LookupError):
    """No folder of this sandbox stands for the bucket: the deploy file does not name it for this function."""


def lambda_handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Add what `clean` returned to the catalogue and return its line.

    Returns `{"lines": [...]}` where not just one recording came. Errors: `UnexpectedRecord`,
    `BucketNotFound`, and the catalogue's own (`CatalogueFull`, `CatalogueBroken`).
    """
    entries = catalogue_entries(event)
    if not entries:
        return {"lines": []}
    lines = add_entries(bucket_folder(os.environ.get("CATALOGUE_BUCKET", "podcast-out")), entries)
    for line in lines:
        print(f"catalogued {line['title']!r}: {line['duration_seconds']} s at {line['loudness_lufs']} LUFS")
    return lines[0] if len(lines) == 1 else {"lines": lines}


def catalogue_entries(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a catalogue entry for each recording of a destination record; raises `UnexpectedRecord`."""
    try:
        context, version = record["requestContext"], record["version"]
        condition, request_id = context["condition"], context["requestId"]
        if version != "1.0" or condition != "Success" or not isinstance(request_id, str):
            raise UnexpectedRecord(f"version {version!r} and condition {condition!r} are not '1.0' and 'Success'")
        response = record["responsePayload"]
        recordings = response.get("recordings", [response])
        if len(recordings) > MAX_RECORDINGS:
            raise UnexpectedRecord(f"{len(recordings)} recordings, at most {MAX_RECORDINGS} are taken")
        return [
            {
                "title": str(recording["title"]),
                "duration_seconds": float(recording["duration_seconds"]),
                "loudness_lufs": _number_or_none(recording["loudness_lufs_after"]),
                "audio": _object(recording["audio"]),
                "picture": _object(recording["picture"]),
                "source": _object(recording["source"]),
                "cleaned_at": str(record["timestamp"]),
                "request_id": request_id,
            }
            for recording in recordings
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnexpectedRecord(f"no destination record of clean: {type(error).__name__}: {error}") from error


def _object(reference: Mapping[str, Any]) -> dict[str, str]:
    return {"bucket": str(reference["bucket"]), "key": str(reference["key"])}


def _number_or_none(number: Any) -> float | None:
    return None if number is None else float(number)


def bucket_folder(bucket: str) -> Path:
    """Return the folder of the bucket's objects: `EVENFLOW_BUCKET_<NAME>` where set, else `/mnt/<NAME>`.

    The same rule stands in `clean`: each function's folder is packed by itself and holds all that it imports.
    """
    variable = "EVENFLOW_BUCKET_" + bucket.upper().replace("-", "_").replace(".", "_")
    folder = Path(os.environ.get(variable) or f"/mnt/{bucket}")
    if not folder.is_dir():
        raise BucketNotFound(
            f"bucket {bucket!r} is not at {folder} and {variable} names no other folder: "
            f"add it under [[functions.buckets]] in the deploy file"
        )
    return folder
