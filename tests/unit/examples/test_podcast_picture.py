"""The waveform picture: a PNG that any reader takes, with the sound where it is and the trimmed ends grey."""

from __future__ import annotations

import struct
import zlib
from array import array
from types import ModuleType
from typing import NamedTuple

import pytest

from tests.unit.examples.podcast_kit import flat, silence, sine

Code = dict[str, ModuleType]
RATE_HZ = 16_000
TONE_HZ = 2_000
"""A whole wave in every column of the short sounds drawn here, with samples at its very crests."""


class Picture(NamedTuple):
    """A decoded picture: rows of (red, green, blue)."""

    width: int
    height: int
    rows: list[list[tuple[int, int, int]]]


def decode_png(content: bytes) -> Picture:
    """Decode an unfiltered true-colour PNG, checking its signature, every chunk's CRC and its end."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    at, bodies, order = 8, dict[bytes, bytes](), []
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        body = content[at + 8 : at + 8 + size]
        (crc,) = struct.unpack_from(">I", content, at + 8 + size)
        assert crc == zlib.crc32(kind + body), kind
        bodies[kind] = bodies.get(kind, b"") + body
        order.append(kind)
        at += 12 + size
    assert (order[0], order[-1], at) == (b"IHDR", b"IEND", len(content))
    width, height, bits, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", bodies[b"IHDR"])
    assert (bits, colour, compression, filtering, interlace) == (8, 2, 0, 0, 0)
    raw = zlib.decompress(bodies[b"IDAT"])
    assert len(raw) == height * (1 + 3 * width)
    rows = []
    for y in range(height):
        line = raw[y * (1 + 3 * width) : (y + 1) * (1 + 3 * width)]
        assert line[0] == 0
        rows.append(list(zip(line[1::3], line[2::3], line[3::3], strict=True)))
    return Picture(width, height, rows)


def draw(code: Code, channels: list[list[float]], begin: int, end: int, gain_db: float = 0.0) -> Picture:
    """Draw channels of which the frames from `begin` to `end` are kept."""
    source = [array("f", channel) for channel in channels]
    factor = 10 ** (gain_db / 20) * 32767
    cleaned = [array("h", [round(x * factor) for x in channel[begin:end]]) for channel in channels]
    span = code["trim"].Span(begin, end)
    return decode_png(code["picture"].waveform_png(source, cleaned, span, gain_db, RATE_HZ))


def lane(code: Code, picture: Picture, x: float, channels: int = 1, index: int = 0) -> list[tuple[int, int, int]]:
    """Return the pixels of one column of a lane; `x` from 0.0 (left) to 1.0."""
    p = code["picture"]
    top = p.MARGIN + index * (p.LANE_HEIGHTS[channels] + p.LANE_GAP)
    column = p.MARGIN + min(p.COLUMNS - 1, int(x * p.COLUMNS))
    return [picture.rows[y][column] for y in range(top, top + p.LANE_HEIGHTS[channels])]


def is_grey(pixel: tuple[int, int, int]) -> bool:
    """Tell whether a pixel has next to no colour."""
    return max(pixel) - min(pixel) <= 32


def lit(pixels: list[tuple[int, int, int]], background: tuple[int, int, int]) -> int:
    """Count the pixels that are clearly brighter than the background and the grid."""
    return sum(1 for pixel in pixels if sum(pixel) > sum(background) + 100)


def test_size_is_by_the_number_of_channels(clean_code: Code) -> None:
    """One lane a channel; the width is always the same."""
    p = clean_code["picture"]
    tone = sine(TONE_HZ, -6, 0.5, RATE_HZ)
    mono, stereo = draw(clean_code, [tone], 0, 8000), draw(clean_code, [tone, tone], 0, 8000)
    assert mono.width == stereo.width == p.COLUMNS + 2 * p.MARGIN
    assert mono.height == p.MARGIN + p.LANE_HEIGHTS[1] + p.AXIS_HEIGHT
    assert stereo.height == p.MARGIN + 2 * p.LANE_HEIGHTS[2] + p.LANE_GAP + p.AXIS_HEIGHT


def test_the_height_of_the_wave_is_its_level(clean_code: Code) -> None:
    """A tone at half of full scale fills half of the lane; a kept silence is a thin line."""
    samples = flat([sine(TONE_HZ, -6.02, 1, RATE_HZ), silence(1, RATE_HZ)])
    picture = draw(clean_code, [samples], 0, len(samples))
    background = lane(clean_code, picture, 0.75)[3]
    height = clean_code["picture"].LANE_HEIGHTS[1]
    assert lit(lane(clean_code, picture, 0.25), background) == pytest.approx(height / 2, abs=4)
    assert 1 <= lit(lane(clean_code, picture, 0.75), background) <= 2


def test_the_rms_lies_inside_the_envelope(clean_code: Code) -> None:
    """A sine's RMS is 0.707 of its peak: that much of the bar has the RMS's one colour."""
    samples = sine(TONE_HZ, -6.02, 1, RATE_HZ)
    column = lane(clean_code, draw(clean_code, [samples], 0, len(samples)), 0.5)
    same = sum(1 for pixel in column if pixel == column[len(column) // 2])
    assert same == pytest.approx(len(column) / 2 * 0.7071, abs=5)


def test_trimmed_ends_are_grey_and_raised_alike(clean_code: Code) -> None:
    """Trimmed sound is shown as loud as it would have become, in grey; the cuts stand where the span ends."""
    tone = sine(TONE_HZ, -26.02, 4, RATE_HZ)
    picture = draw(clean_code, [tone], RATE_HZ, 3 * RATE_HZ, gain_db=20.0)
    for x in (0.1, 0.9):
        assert all(is_grey(pixel) for pixel in lane(clean_code, picture, x) if sum(pixel) > 200)
    kept, trimmed = lane(clean_code, picture, 0.5), lane(clean_code, picture, 0.1)
    assert not any(is_grey(pixel) for pixel in kept if sum(pixel) > 200)
    assert lit(trimmed, kept[3]) == pytest.approx(lit(kept, kept[3]), abs=4)
    p = clean_code["picture"]
    amber = [x - p.MARGIN for x in range(picture.width) if picture.rows[p.MARGIN][x] == p._CUT]
    assert amber == [p.COLUMNS // 4, p.COLUMNS * 3 // 4 - 1]


def test_each_channel_has_its_lane(clean_code: Code) -> None:
    """Left is above right."""
    channels = [sine(TONE_HZ, -6, 0.5, RATE_HZ), silence(0.5, RATE_HZ)]
    picture = draw(clean_code, channels, 0, 8000)
    left, right = (lane(clean_code, picture, 0.5, channels=2, index=index) for index in (0, 1))
    background = right[3]
    assert lit(left, background) > 80
    assert lit(right, background) <= 2


@pytest.mark.parametrize(
    "samples", [[0.5], [-1.0, 1.0] * 3, [1.0] * RATE_HZ, [-1.0] * RATE_HZ, [0.0] * 17, [4.0] * RATE_HZ]
)
def test_the_extremes_stay_in_the_picture(clean_code: Code, samples: list[float]) -> None:
    """One sample, full scale on one side, and trimmed sound far above full scale do not leave the lane."""
    end = 0 if max(samples) > 1 else len(samples)
    picture = draw(clean_code, [samples], 0, end)
    p = clean_code["picture"]
    page = picture.rows[0][0]
    assert all(pixel == page for row in picture.rows[: p.MARGIN] for pixel in row)
    assert all(pixel == page for row in picture.rows for pixel in row[: p.MARGIN - 10])


@pytest.mark.parametrize(("seconds", "ticks"), [(0.5, 1), (9.0, 10), (61, 7), (374, 7)])
def test_the_axis_has_round_ticks(clean_code: Code, seconds: float, ticks: int) -> None:
    """A tick at every round step of time, never more than the bound."""
    rate_hz = 100  # the axis counts seconds, whatever the sound
    source = [array("f", bytes(4 * round(seconds * rate_hz)))]
    span = clean_code["trim"].Span(0, len(source[0]))
    p = clean_code["picture"]
    picture = decode_png(p.waveform_png(source, [array("h", bytes(2 * len(source[0])))], span, 0.0, rate_hz))
    row = picture.rows[picture.height - p.AXIS_HEIGHT + 8]
    assert sum(1 for pixel in row if pixel == p._AXIS) == ticks <= p.MAX_TICKS + 1
