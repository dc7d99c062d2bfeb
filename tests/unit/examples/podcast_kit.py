"""What the podcast example's tests share: code as a sandbox imports it, AWS events, sounds."""

from __future__ import annotations

import importlib
import math
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote_plus

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "podcast"


def load_function(name: str) -> dict[str, ModuleType]:
    """Import a function's modules as its sandbox does, its folder first on sys.path, and leave no trace.

    The modules have short names like `clean` and `wav`: in sys.modules they could stand for others' code.
    """
    folder = EXAMPLE / name
    names = sorted(path.stem for path in folder.glob("*.py"))
    assert names, f"no code in {folder}"
    before = {module: sys.modules.pop(module) for module in names if module in sys.modules}
    writes_no_bytecode = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # the folder is packed as it is: tests leave nothing in it
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        return {module: importlib.import_module(module) for module in names}
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes_no_bytecode
        for module in names:
            sys.modules.pop(module, None)
        sys.modules.update(before)


def s3_event(*keys: str, bucket: str = "podcast-in", name: str = "ObjectCreated:Put") -> dict[str, Any]:
    """Return S3's notification for objects with these (not yet encoded) keys.

    Shape: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """
    return {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": "us-east-1",
                "eventTime": "2024-05-01T06:00:00.000Z",
                "eventName": name,
                "userIdentity": {"principalId": "EXAMPLE"},
                "requestParameters": {"sourceIPAddress": "127.0.0.1"},
                "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8"},
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "podcast",
                    "bucket": {
                        "name": bucket,
                        "ownerIdentity": {"principalId": "EXAMPLE"},
                        "arn": f"arn:aws:s3:::{bucket}",
                    },
                    "object": {
                        "key": quote_plus(key, safe="/"),
                        "size": 1024,
                        "eTag": "0123456789abcdef0123456789abcdef",
                        "sequencer": "0055AED6DCD90281E5",
                    },
                },
            }
            for key in keys
        ]
    }


def destination_record(response: Any, request_id: str, condition: str = "Success") -> dict[str, Any]:
    """Return the record that Lambda hands to an on-success destination.

    Shape: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    """
    return {
        "version": "1.0",
        "timestamp": "2024-05-01T06:00:02.345Z",
        "requestContext": {
            "requestId": request_id,
            "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:clean:$LATEST",
            "condition": condition,
            "approximateInvokeCount": 1,
        },
        "requestPayload": s3_event("first-light.wav"),
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": response,
    }


def cleaned(key: str = "first-light.wav", **changes: Any) -> dict[str, Any]:
    """Return what `clean` answers for one recording."""
    facts: dict[str, Any] = {
        "title": "First light",
        "source": {"bucket": "podcast-in", "key": key},
        "audio": {"bucket": "podcast-out", "key": f"cleaned/{key}"},
        "picture": {"bucket": "podcast-out", "key": f"waveforms/{key}.png"},
        "duration_seconds": 6.39,
        "trimmed_seconds": 2.609,
        "loudness_lufs_before": -36.5,
        "loudness_lufs_after": -16.0,
        "peak_dbfs": -1.0,
        "sample_rate_hz": 16000,
        "channels": 1,
    }
    return facts | changes


def sine(hz: float, dbfs: float, seconds: float, rate_hz: int) -> list[float]:
    """Return a sine whose peak (not RMS) is at `dbfs`, full scale 1.0."""
    step, peak = 2.0 * math.pi * hz / rate_hz, 10.0 ** (dbfs / 20.0)
    return [peak * math.sin(step * n) for n in range(round(seconds * rate_hz))]


def silence(seconds: float, rate_hz: int) -> list[float]:
    """Return digital silence."""
    return [0.0] * round(seconds * rate_hz)


def wav_file(channels: Sequence[Sequence[float]], rate_hz: int, kind: str = "s16", *, before: bytes = b"") -> bytes:
    """Return a WAV file written without the example's own code; `kind` is u8, s16, s24, s32, f32 or f64.

    `before` is chunks to put in front of the `fmt ` chunk.
    """
    coding, sample_bytes = {
        "u8": (1, 1),
        "s16": (1, 2),
        "s24": (1, 3),
        "s32": (1, 4),
        "f32": (3, 4),
        "f64": (3, 8),
    }[kind]
    count = len(channels)
    fmt = struct.pack(
        "<HHIIHH",
        coding,
        count,
        rate_hz,
        rate_hz * count * sample_bytes,
        count * sample_bytes,
        sample_bytes * 8,
    )
    data = b"".join(_sample(x, kind) for frame in zip(*channels, strict=True) for x in frame)
    return riff(before + chunk(b"fmt ", fmt) + chunk(b"data", data))


def _sample(x: float, kind: str) -> bytes:
    if kind == "f32":
        return struct.pack("<f", x)
    if kind == "f64":
        return struct.pack("<d", x)
    bits = int(kind[1:])
    number = max(-(1 << bits - 1), min((1 << bits - 1) - 1, round(x * (1 << bits - 1))))
    if kind == "u8":
        return bytes([number + 128])
    return number.to_bytes(bits // 8, "little", signed=True)


def chunk(name: bytes, body: bytes) -> bytes:
    """Return a RIFF chunk, padded to an even length."""
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def riff(chunks: bytes) -> bytes:
    """Return a RIFF WAVE file of these chunks."""
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def visible(folder: Path) -> set[str]:
    """Return every file under a folder, hidden ones too, relative to it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def flat(parts: Iterable[Sequence[float]]) -> list[float]:
    """Return the parts one after the other."""
    return [x for part in parts for x in part]
