"""Draws a recording's waveform: envelope, RMS, and greyed what was trimmed.

One lane for each channel, one pixel column for each slice of time, seconds along the bottom. The whole
recording is shown at the cleaned level, so that the greyed ends can be compared with what was kept.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

from canvas import Canvas, Colour, mix
from png import png_bytes
from trim import Span

COLUMNS = 1200
"""Width of the waveform in pixels; the picture is `2 * MARGIN` wider."""
MARGIN = 28
AXIS_HEIGHT = 44
LANE_GAP = 10
LANE_HEIGHTS = {1: 301, 2: 191}
"""Height of a lane in pixels, by the number of channels; odd, so that the zero line is one row of its own."""
MAX_TICKS = 12
FULL_SCALE = 32768.0

_PAGE: Colour = (13, 18, 30)
_LANE: Colour = (19, 27, 44)
_GRID: Colour = (33, 45, 69)
_ZERO: Colour = (58, 76, 108)
_QUIET: Colour = (38, 198, 218)
_LOUD: Colour = (108, 92, 231)
_RMS: Colour = (168, 236, 230)
_TRIMMED_LANE: Colour = (25, 29, 38)
_TRIMMED_HATCH: Colour = (42, 48, 60)
_TRIMMED: Colour = (88, 97, 118)
_TRIMMED_RMS: Colour = (132, 141, 160)
_CUT: Colour = (245, 176, 65)
_AXIS: Colour = (148, 161, 188)
_HATCH_STEP = 12
_RMS_NEIGHBOURS = 3

_TICK_STEPS_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800)
_DIGIT_SCALE = 2
# Five rows of three pixels for each sign, a row as an octal digit of three bits.
_DIGITS = dict(
    zip(
        "0123456789:",
        ("75557", "26227", "71747", "71717", "55711", "74717", "74757", "71222", "75757", "75717", "02020"),
        strict=True,
    )
)

_Ramp = tuple[bytes, bytes, bytes]


class Column(NamedTuple):
    """What one column shows: lowest and highest sample and mean square, full scale 1.0."""

    low: float
    high: float
    power: float


def waveform_png(
    source: Sequence[array[float]],
    cleaned: Sequence[array[int]],
    kept: Span,
    gain_db: float,
    sample_rate_hz: int,
) -> bytes:
    """Return a PNG of `source` with its `kept` frames as in `cleaned` (16-bit) and the trimmed ones greyed.

    `gain_db` is what `cleaned` was raised by; the trimmed ends are shown raised as much. Costs one pass over
    the samples in C and some 0.1 s for the pixels.
    """
    frames = len(source[0])
    lane_height = LANE_HEIGHTS[len(source)]
    height = MARGIN + len(source) * (lane_height + LANE_GAP) - LANE_GAP + AXIS_HEIGHT
    canvas = Canvas(COLUMNS + 2 * MARGIN, height, _PAGE)
    for lane, (before, after) in enumerate(zip(source, cleaned, strict=True)):
        top = MARGIN + lane * (lane_height + LANE_GAP)
        cuts = [kept.begin * COLUMNS // frames, -(-kept.end * COLUMNS // frames)]
        _draw_background(canvas, top, lane_height, cuts)
        columns = _columns(before, after, kept, 10.0 ** (gain_db / 20.0))
        _draw_columns(canvas, top, lane_height, columns, cuts)
    _draw_axis(canvas, height - AXIS_HEIGHT, frames / sample_rate_hz)
    return png_bytes(canvas.width, canvas.rows())


def _columns(before: array[float], after: array[int], kept: Span, gain: float) -> list[Column]:
    frames = len(before)
    columns = []
    for column in range(COLUMNS):
        begin = column * frames // COLUMNS
        end = max(begin + 1, (column + 1) * frames // COLUMNS)
        # A column across a cut shows its kept part alone: the two are at different levels.
        kept_samples = after[max(0, begin - kept.begin) : max(0, end - kept.begin)]
        if kept_samples:
            columns.append(_column(kept_samples, 1.0 / FULL_SCALE))
        else:
            columns.append(_column(before[begin:end], gain))
    return columns


def _column(samples: array[int] | array[float], factor: float) -> Column:
    power: float = sum(map(mul, samples, samples)) / len(samples)
    return Column(max(-1.0, min(samples) * factor), min(1.0, max(samples) * factor), power * factor * factor)


def _draw_background(canvas: Canvas, top: int, height: int, cuts: Sequence[int]) -> None:
    canvas.fill(MARGIN, top, COLUMNS, height, _LANE)
    middle, reach = top + height // 2, height // 2
    for share in (-0.5, 0.5):  # -6 dBFS
        canvas.fill(MARGIN, middle + round(share * reach), COLUMNS, 1, _GRID)
    for x in [*range(cuts[0]), *range(cuts[1], COLUMNS)]:
        canvas.fill(MARGIN + x, top, 1, height, _TRIMMED_LANE)
        for y in range((-x - top) % _HATCH_STEP, height, _HATCH_STEP):
            canvas.blend(MARGIN + x, top + y, _TRIMMED_HATCH, 1.0)
            canvas.blend(MARGIN + x, top + min(y + 1, height - 1), _TRIMMED_HATCH, 0.5)
    canvas.fill(MARGIN, middle, COLUMNS, 1, _ZERO)


def _draw_columns(canvas: Canvas, top: int, height: int, columns: Sequence[Column], cuts: Sequence[int]) -> None:
    middle, reach = top + height / 2, height / 2 - 1
    kept = (_ramp(height, _QUIET, _LOUD), _ramp(height, _RMS, _RMS))
    trimmed = (_ramp(height, _TRIMMED, _TRIMMED), _ramp(height, _TRIMMED_RMS, _TRIMMED_RMS))
    for x, column in enumerate(columns):
        envelope, rms = kept if cuts[0] <= x < cuts[1] else trimmed
        # Half a pixel at least to each side: silence is a thin line, not a gap.
        above, below = max(0.5, column.high * reach), max(0.5, -column.low * reach)
        canvas.bar(MARGIN + x, middle - above, middle + below, envelope, top)
        # A column may be shorter than one wave of a deep voice: without its neighbours the RMS would be a
        # comb.
        near = columns[max(0, x - _RMS_NEIGHBOURS) : x + _RMS_NEIGHBOURS + 1]
        level = math.sqrt(sum(other.power for other in near) / len(near)) * reach
        if min(level, above, below) > 0.5:
            canvas.bar(MARGIN + x, middle - min(level, above), middle + min(level, below), rms, top)
    for cut, edge in ((cuts[0], cuts[0]), (cuts[1], cuts[1] - 1)):
        if 0 < cut < COLUMNS:
            canvas.fill(MARGIN + edge, top, 1, height, _CUT)


def _ramp(height: int, middle: Colour, ends: Colour) -> _Ramp:
    """Colours of a lane's rows, from `middle` at the zero line to `ends` at full scale."""
    half = height / 2
    rows = [mix(middle, ends, abs(row + 0.5 - half) / half) for row in range(height)]
    return bytes(r for r, _, _ in rows), bytes(g for _, g, _ in rows), bytes(b for _, _, b in rows)


def _draw_axis(canvas: Canvas, top: int, duration_seconds: float) -> None:
    """Draw a tick and its time (seconds, or minutes:seconds from a minute on) at every round step."""
    steps = (step for step in _TICK_STEPS_SECONDS if duration_seconds / step <= MAX_TICKS)
    step = next(steps, _TICK_STEPS_SECONDS[-1])
    for second in range(0, math.floor(duration_seconds) + 1, step):
        x = MARGIN + min(COLUMNS - 1, round(second * COLUMNS / duration_seconds))
        canvas.fill(x, top + 6, 1, 6, _AXIS)
        label = str(second) if duration_seconds < 60 else f"{second // 60}:{second % 60:02}"
        width = (len(label) * 4 - 1) * _DIGIT_SCALE
        left = min(x - width // 2, canvas.width - width)
        for index, sign in enumerate(label):
            _draw_sign(canvas, left + index * 4 * _DIGIT_SCALE, top + 18, sign)


def _draw_sign(canvas: Canvas, left: int, top: int, sign: str) -> None:
    for row, bits in enumerate(_DIGITS[sign]):
        for column in range(3):
            if int(bits) >> (2 - column) & 1:
                at = (left + column * _DIGIT_SCALE, top + row * _DIGIT_SCALE)
                canvas.fill(*at, _DIGIT_SCALE, _DIGIT_SCALE, _AXIS)
