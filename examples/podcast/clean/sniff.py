"""Says in a few words what a file that is no WAV file is, from its first bytes."""

from __future__ import annotations

_SIGNATURES = (
    (0, b"RIFX", "a big-endian (RIFX) WAV file"),
    (0, b"RF64", "a 64-bit (RF64) WAV file"),
    (0, b"BW64", "a 64-bit (BW64) WAV file"),
    (0, b"RIFF", "a RIFF file of another kind than WAVE"),
    (0, b"ID3", "an MP3 file"),
    (0, b"\xff\xfb", "an MP3 file"),
    (0, b"\xff\xf3", "an MP3 file"),
    (0, b"\xff\xf1", "an AAC file"),
    (0, b"OggS", "an Ogg file"),
    (0, b"fLaC", "a FLAC file"),
    (0, b"FORM", "an AIFF file"),
    (4, b"ftyp", "an MP4 or M4A file"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM file"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive"),
)
_SHOWN_CHARACTERS = 24


def describe(beginning: bytes) -> str:
    """Describe a file by its first bytes (64 are enough); never raises."""
    if not beginning:
        return "an empty file"
    for offset, signature, kind in _SIGNATURES:
        if beginning.startswith(signature, offset):
            # A WAV file's own first four bytes may be all that was uploaded of it.
            return f"the first {len(beginning)} bytes of one" if len(beginning) < 12 else kind
    # The cut at the end may go through a character: those bytes are dropped, wrong ones elsewhere are not.
    text = beginning.decode("utf-8", "replace").rstrip("\ufffd")
    if text and all(c.isprintable() or c in "\r\n\t" for c in text) and "\ufffd" not in text:
        return f"text beginning {text[:_SHOWN_CHARACTERS]!r}"
    return f"unknown bytes beginning {beginning[:8].hex(' ')}"
