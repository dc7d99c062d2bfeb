"""Reading WAV files: every sample format gives the same sound, every broken file a typed error that helps."""

from __future__ import annotations

import math
import struct
from types import ModuleType

import pytest

from tests.unit.examples.podcast_kit import chunk, riff, sine, wav_file

Code = dict[str, ModuleType]
RATE_HZ = 16_000
SMALLEST_STEP = {"u8": 2**-7, "s16": 2**-15, "s24": 2**-23, "s32": 2**-23, "f32": 2**-23, "f64": 2**-23}
FMT = struct.pack("<HHIIHH", 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)


@pytest.mark.parametrize("kind", SMALLEST_STEP)
@pytest.mark.parametrize("count", [1, 2])
def test_every_format_gives_the_same_samples(clean_code: Code, kind: str, count: int) -> None:
    """Each channel comes back as it was, to half a step of its format."""
    channels = [sine(440, -6, 0.1, RATE_HZ), sine(1000, -20, 0.1, RATE_HZ)][:count]
    recording = clean_code["wav"].parse_wav(wav_file(channels, RATE_HZ, kind), "a.wav")
    assert (recording.sample_rate_hz, len(recording.channels), recording.frames) == (RATE_HZ, count, 1600)
    for read, written in zip(recording.channels, channels, strict=True):
        assert max(abs(a - b) for a, b in zip(read, written, strict=True)) <= SMALLEST_STEP[kind]


@pytest.mark.parametrize("kind", ["u8", "s16", "s24", "s32"])
def test_the_lowest_number_is_minus_full_scale(clean_code: Code, kind: str) -> None:
    """Signs and offsets are right at the ends of the range, where an error would wrap around."""
    recording = clean_code["wav"].parse_wav(wav_file([[-1.0, 0.0, 0.5, -0.5]], RATE_HZ, kind), "a.wav")
    assert list(recording.channels[0]) == [-1.0, 0.0, 0.5, -0.5]


def test_unknown_chunks_are_stepped_over(clean_code: Code) -> None:
    """A chunk of odd length before `fmt ` (editors write such) does not shift what follows."""
    content = wav_file([[0.25, -0.25]], RATE_HZ, before=chunk(b"LIST", b"odd"))
    assert list(clean_code["wav"].parse_wav(content, "a.wav").channels[0]) == [0.25, -0.25]


def test_extensible_header(clean_code: Code) -> None:
    """WAVE_FORMAT_EXTENSIBLE, which recorders write for 24 bits, names the real format in its GUID."""
    guid = struct.pack("<H", 1) + bytes.fromhex("000000001000800000aa00389b71")
    fmt = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE_HZ, 2 * RATE_HZ, 2, 16, 22, 16, 4) + guid
    content = riff(chunk(b"fmt ", fmt) + chunk(b"data", struct.pack("<2h", 16384, -16384)))
    assert list(clean_code["wav"].parse_wav(content, "a.wav").channels[0]) == [0.5, -0.5]


def test_a_streamed_file_does_not_know_its_length(clean_code: Code) -> None:
    """A writer into a pipe leaves 0xFFFFFFFF as the size: all that follows is sound, less half a frame."""
    content = riff(chunk(b"fmt ", FMT) + b"data\xff\xff\xff\xff" + struct.pack("<2h", 8192, 0) + b"\1")
    assert list(clean_code["wav"].parse_wav(content, "a.wav").channels[0]) == [0.25, 0.0]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"RIFF", "the first 4 bytes of one"),
        (b"Dear listeners,\nno sound today.", "text beginning 'Dear listeners"),
        (
            "Grüße an alle, die zuhören: heute kein Ton, morgen wieder, übermorgen auch".encode(),
            "text beginning",
        ),
        (b"ID3\x04" + bytes(60), "an MP3 file"),
        (b"\0\0\0\x20ftypM4A " + bytes(60), "an MP4 or M4A file"),
        (b"RIFF\x10\0\0\0AVI LIST", "a RIFF file of another kind"),
        (bytes(range(128, 192)), "unknown bytes beginning 80 81"),
        (riff(b""), "cut short"),
        (riff(chunk(b"fmt ", FMT))[:30], "cut short"),
        (riff(chunk(b"fmt ", FMT)), "no complete 'data' chunk"),
        (wav_file([[0.1] * 100], RATE_HZ)[:-50], "200 bytes of sound announced, 150 there"),
        (riff(chunk(b"data", b"\0\0")), "'data' before any 'fmt '"),
        (riff(chunk(b"fmt ", FMT[:8]) + chunk(b"data", b"\0\0")), "'fmt ' chunk of 8 bytes"),
        (riff(chunk(b"fmt ", FMT[:12] + b"\7\0\x10\0") + chunk(b"data", b"\0\0")), "contradicts itself"),
    ],
)
def test_what_is_no_wav_file_is_named(
    clean_code: Code, tmp_path_factory: pytest.TempPathFactory, content: bytes, found: str
) -> None:
    """The error says what the file is, and what to do about it."""
    wav = clean_code["wav"]
    path = tmp_path_factory.mktemp("inbox") / "talk.wav"
    path.write_bytes(content)
    with pytest.raises(wav.NotAWavFile) as caught:
        wav.read_wav(path)
    message = str(caught.value)
    assert message.startswith("talk.wav ")
    assert found in message
    assert "convert" in message or "upload" in message


@pytest.mark.parametrize(
    ("fmt", "found"),
    [
        (struct.pack("<HHIIHH", 1, 6, 48_000, 576_000, 12, 16), "6 channels"),
        (struct.pack("<HHIIHH", 1, 0, 48_000, 0, 0, 16), "0 channels"),
        (struct.pack("<HHIIHH", 1, 1, 4_000, 8_000, 2, 16), "4000 Hz"),
        (struct.pack("<HHIIHH", 1, 1, 0, 0, 2, 16), "0 Hz"),
        (struct.pack("<HHIIHH", 7, 1, 8_000, 8_000, 1, 8), "format 0x0007"),
        (struct.pack("<HHIIHH", 1, 1, 8_000, 8_000, 1, 12), "12-bit"),
    ],
)
def test_unsupported_kinds_are_named(clean_code: Code, fmt: bytes, found: str) -> None:
    """A WAV file of a kind that is not processed is told apart from what is none."""
    wav = clean_code["wav"]
    with pytest.raises(wav.UnsupportedWav, match=found):
        wav.parse_wav(riff(chunk(b"fmt ", fmt) + chunk(b"data", bytes(96))), "a.wav")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1e6])
def test_float_samples_that_are_no_sound_are_refused(clean_code: Code, bad: float) -> None:
    """One sample that is not finite would make every sum after it so."""
    wav = clean_code["wav"]
    with pytest.raises(wav.UnsupportedWav, match="not finite or far too loud"):
        wav.parse_wav(wav_file([[0.0, bad, 0.0]], RATE_HZ, "f32"), "a.wav")


def test_no_samples(clean_code: Code) -> None:
    """A header without sound is told as such."""
    wav = clean_code["wav"]
    with pytest.raises(wav.UnsupportedWav, match="without any sound"):
        wav.parse_wav(wav_file([[]], RATE_HZ), "a.wav")


def test_size_is_bounded(
    clean_code: Code, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both bounds hold exactly: one sample or byte more is refused, the bound itself is not."""
    wav = clean_code["wav"]
    content = wav_file([[0.1] * 100], RATE_HZ)
    path = tmp_path_factory.mktemp("inbox") / "long.wav"
    path.write_bytes(content)
    monkeypatch.setattr(wav, "MAX_SAMPLES", 100)
    monkeypatch.setattr(wav, "MAX_FILE_BYTES", len(content))
    assert wav.read_wav(path).frames == 100
    monkeypatch.setattr(wav, "MAX_SAMPLES", 99)
    with pytest.raises(wav.RecordingTooLarge, match="split it"):
        wav.read_wav(path)
    monkeypatch.setattr(wav, "MAX_SAMPLES", 100)
    monkeypatch.setattr(wav, "MAX_FILE_BYTES", len(content) - 1)
    with pytest.raises(wav.RecordingTooLarge, match="split it"):
        wav.read_wav(path)
