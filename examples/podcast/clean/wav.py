"""Reads RIFF WAVE files into samples between -1 and 1, and writes 16-bit ones.

Format: "Multimedia Programming Interface and Data Specifications 1.0" (RIFF, WAVE) and Microsoft's
WAVE_FORMAT_EXTENSIBLE. The standard library's `wave` knows neither float samples nor, before Python 3.12, the
extensible header, and its errors do not tell a user what the file is instead.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sniff import describe

MAX_FILE_BYTES = 32 * 1024 * 1024
"""Largest file taken in: its bytes and its samples are both in memory for a moment (256 MB function)."""
MAX_SAMPLES = 6_000_000
"""Most samples taken in, all channels together (6 min 15 s of 16 kHz mono): some 7 of the 60 s allowed."""
MIN_SAMPLE_RATE_HZ = 8_000
MAX_SAMPLE_RATE_HZ = 192_000
MAX_CHANNELS = 2
MAX_FLOAT_SAMPLE = 1_000.0
"""Float files may go above full scale (1.0); more than 60 dB above it is no sound but a broken file."""
BLOCK_SAMPLES = 65_536
"""Samples turned into Python numbers at a time: a list of all of them would cost 32 bytes each."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# (WAVE format, bits) -> array type, number that is full scale, number that is silence. 8-bit WAV alone is
# unsigned, and 24-bit samples are widened to 32 bits.
_SAMPLES = {
    (_PCM, 8): ("B", 2.0**7, 128),
    (_PCM, 16): ("h", 2.0**15, 0),
    (_PCM, 24): ("i", 2.0**31, 0),
    (_PCM, 32): ("i", 2.0**31, 0),
    (_FLOAT, 32): ("f", 1.0, 0),
    (_FLOAT, 64): ("d", 1.0, 0),
}
_EXTENSIBLE_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_STREAMED_BYTES = 0x7FFFF000
"""A writer that could not seek back (a pipe) leaves a data size this large or larger: take what follows."""
_CONVERT = "convert it to PCM first, for example: ffmpeg -i INPUT -c:a pcm_s16le OUTPUT.wav"


class NotAWavFile(ValueError):
    """The object is no WAV file, or one whose structure is broken or cut short."""


class UnsupportedWav(ValueError):
    """The object is a WAV file of a kind that this function does not process."""


class RecordingTooLarge(ValueError):
    """The recording is larger than `MAX_FILE_BYTES` or longer than `MAX_SAMPLES`."""


@dataclass(frozen=True)
class Recording:
    """Sound in memory: one `array('f')` a channel, all of one length, full scale at -1 and 1."""

    sample_rate_hz: int
    channels: Sequence[array[float]]

    @property
    def frames(self) -> int:
        """Samples in each channel."""
        return len(self.channels[0])

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate_hz


@dataclass(frozen=True)
class _Format:
    coding: int
    channels: int
    sample_rate_hz: int
    bits: int


def read_wav(path: Path) -> Recording:
    """Read a WAV file: PCM of 8, 16, 24 or 32 bits, or float of 32 or 64, mono or stereo.

    Raises `NotAWavFile`, `UnsupportedWav` or `RecordingTooLarge`; each message says what was found and what
    to do.
    """
    with path.open("rb") as file:
        beginning = file.read(64)
        if beginning[:4] != b"RIFF" or beginning[8:12] != b"WAVE":
            raise NotAWavFile(f"{path.name} is no WAV file but {describe(beginning)}; {_CONVERT}")
        # The kind is told before the size: "that is a film" helps more than "that is 4 GB".
        rest = file.read(MAX_FILE_BYTES + 1 - len(beginning))
    if len(beginning) + len(rest) > MAX_FILE_BYTES:
        raise RecordingTooLarge(f"{path.name} is larger than {MAX_FILE_BYTES} bytes; split it into parts")
    return parse_wav(beginning + rest, path.name)


def parse_wav(content: bytes, name: str) -> Recording:
    """Parse a whole WAV file; `name` is for the error messages. Errors as in `read_wav`."""
    fmt: _Format | None = None
    position = 12
    while position + 8 <= len(content):
        chunk, size_bytes = struct.unpack_from("<4sI", content, position)
        position += 8
        left_bytes = len(content) - position
        if chunk == b"data":
            if fmt is None:
                raise NotAWavFile(f"{name} has its 'data' before any 'fmt ' chunk; {_CONVERT}")
            if size_bytes >= _STREAMED_BYTES:
                size_bytes = left_bytes
            if size_bytes > left_bytes:
                raise NotAWavFile(
                    f"{name} is cut short: {size_bytes} bytes of sound announced, {left_bytes} there; "
                    f"upload the whole file again"
                )
            return _decode(memoryview(content)[position : position + size_bytes], fmt, name)
        if size_bytes > left_bytes:
            break
        if chunk == b"fmt ":
            fmt = _parse_format(content[position : position + size_bytes], name)
        position += size_bytes + size_bytes % 2  # chunks begin at even offsets
    missing = "fmt" if fmt is None else "data"
    raise NotAWavFile(
        f"{name} begins as a WAV file but is cut short: it has {len(content)} bytes and no complete "
        f"{missing!r} chunk; upload the whole file again"
    )


def _parse_format(chunk: bytes, name: str) -> _Format:
    if len(chunk) < 16:
        raise NotAWavFile(f"{name} has a 'fmt ' chunk of {len(chunk)} bytes and needs 16; {_CONVERT}")
    coding, channels, sample_rate_hz, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", chunk)
    if coding == _EXTENSIBLE and len(chunk) >= 40 and chunk[26:40] == _EXTENSIBLE_GUID_TAIL:
        coding = int.from_bytes(chunk[24:26], "little")
    if (coding, bits) not in _SAMPLES:
        raise UnsupportedWav(f"{name} holds {bits}-bit samples of WAVE format {coding:#06x}; {_CONVERT}")
    if not 1 <= channels <= MAX_CHANNELS:
        raise UnsupportedWav(f"{name} has {channels} channels; mix it down to mono or stereo")
    if not MIN_SAMPLE_RATE_HZ <= sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
        raise UnsupportedWav(
            f"{name} has a sample rate of {sample_rate_hz} Hz; "
            f"resample it to {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ} Hz"
        )
    if frame_bytes != channels * bits // 8:
        raise NotAWavFile(
            f"{name} contradicts itself: {frame_bytes}-byte frames of {channels} x {bits} bits; {_CONVERT}"
        )
    return _Format(coding, channels, sample_rate_hz, bits)


def _decode(data: memoryview, fmt: _Format, name: str) -> Recording:
    sample_bytes = fmt.bits // 8
    frames = len(data) // (sample_bytes * fmt.channels)
    samples = frames * fmt.channels
    if frames == 0:
        raise UnsupportedWav(f"{name} is a WAV file without any sound in it; record it again")
    if samples > MAX_SAMPLES:
        raise RecordingTooLarge(
            f"{name} has {samples} samples ({frames / fmt.sample_rate_hz:.0f} s), at most {MAX_SAMPLES} are "
            f"taken; split it into parts or lower its sample rate"
        )
    numbers = _numbers(data[: samples * sample_bytes], fmt)
    _, full_scale, zero = _SAMPLES[fmt.coding, fmt.bits]
    channels = [_scaled(numbers[c :: fmt.channels], full_scale, zero) for c in range(fmt.channels)]
    if fmt.coding == _FLOAT:
        for channel in channels:
            if not all(map(math.isfinite, channel)) or max(map(abs, channel)) > MAX_FLOAT_SAMPLE:
                raise UnsupportedWav(f"{name} holds float samples that are not finite or far too loud; {_CONVERT}")
    return Recording(fmt.sample_rate_hz, channels)


def _numbers(data: memoryview, fmt: _Format) -> array[Any]:
    """Return the samples as they stand in the file; 24-bit ones shifted up into 32 bits."""
    if fmt.bits == 24:
        # No array type has three bytes: move each into its place in a four-byte number, the lowest zero.
        widened = bytearray(len(data) // 3 * 4)
        for byte in range(3):
            widened[byte + 1 :: 4] = data[byte::3]
        content: memoryview | bytearray = widened
    else:
        content = data
    code, _, _ = _SAMPLES[fmt.coding, fmt.bits]
    numbers: array[Any] = array(code)
    numbers.frombytes(content)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _scaled(numbers: array[Any], full_scale: float, zero: int) -> array[float]:
    factor = 1.0 / full_scale
    scaled = array("f")
    for start in range(0, len(numbers), BLOCK_SAMPLES):
        scaled.extend(array("f", [(n - zero) * factor for n in numbers[start : start + BLOCK_SAMPLES]]))
    return scaled


def wav_bytes(channels: Sequence[array[int]], sample_rate_hz: int) -> bytes:
    """Return a 16-bit PCM WAV file of `array('h')` channels, byte for byte the same for the same samples."""
    count = len(channels)
    frames: array[int] = array("h", bytes(2 * count * len(channels[0])))
    for index, channel in enumerate(channels):
        frames[index::count] = channel
    if sys.byteorder == "big":
        frames.byteswap()
    data = frames.tobytes()
    fmt = struct.pack("<HHIIHH", _PCM, count, sample_rate_hz, sample_rate_hz * 2 * count, 2 * count, 16)
    chunks = b"WAVE" + b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks
