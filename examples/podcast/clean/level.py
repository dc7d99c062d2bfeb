"""Brings a recording to the target loudness, with a limiter that keeps its peaks under the ceiling."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from loudness import integrated_lufs

TARGET_LUFS = -16.0
"""What podcast directories ask for (Apple Podcasts: -16 LKFS, within 1 dB, and peaks of -1 dBFS at most)."""
CEILING_DBFS = -1.0
MAX_GAIN_DB = 40.0
"""More would turn the noise of an all but silent recording into a roar."""
TOLERANCE_LU = 0.05
MAX_PASSES = 6
"""Limiting takes a little loudness away: the gain is corrected by what was measured, this often at most."""
FULL_SCALE = 32768.0
_CEILING = int(10.0 ** (CEILING_DBFS / 20.0) * FULL_SCALE)
_CELLS_PER_SECOND = 1000
_REACH_CELLS = 12
"""The limiter looks 12 ms ahead and behind: its gain has as long to fall and to rise, and makes no click."""


@dataclass(frozen=True)
class Levelled:
    """16-bit samples (`array('h')` a channel), the gain that was applied, the loudness then measured."""

    channels: Sequence[array[int]]
    gain_db: float
    loudness_lufs: float | None


def levelled(channels: Sequence[array[float]], sample_rate_hz: int, loudness_lufs: float | None) -> Levelled:
    """Return the channels at `TARGET_LUFS` with no sample above `CEILING_DBFS`.

    `loudness_lufs` is the loudness of the recording; None (silence, under 400 ms) leaves the gain at 0 dB.
    The target is missed only where `MAX_GAIN_DB` or `MAX_PASSES` ends the search; the result says what was
    reached.
    """
    gain_db = 0.0 if loudness_lufs is None else min(MAX_GAIN_DB, TARGET_LUFS - loudness_lufs)
    passes = 0
    while True:
        passes += 1
        limited = _limited(channels, 10.0 ** (gain_db / 20.0) * FULL_SCALE, sample_rate_hz)
        after_lufs = integrated_lufs(limited, sample_rate_hz, FULL_SCALE)
        if loudness_lufs is None or after_lufs is None or passes == MAX_PASSES:
            break
        next_db = min(MAX_GAIN_DB, gain_db + TARGET_LUFS - after_lufs)
        if abs(next_db - gain_db) <= TOLERANCE_LU:
            break
        gain_db = next_db
    return Levelled(limited, gain_db, after_lufs)


def _limited(channels: Sequence[array[float]], factor: float, sample_rate_hz: int) -> list[array[int]]:
    """Multiply by `factor` (to 16-bit units), by less near a peak above the ceiling; all channels alike."""
    frames = len(channels[0])
    cells = max(1, frames * _CELLS_PER_SECOND // sample_rate_hz)
    edges = [frames * cell // cells for cell in range(cells + 1)]
    gains = _edge_gains(channels, edges, factor)
    limited = []
    for channel in channels:
        samples: array[int] = array("h")
        for cell in range(cells):
            begin, end = edges[cell], edges[cell + 1]
            gain, slope = gains[cell], (gains[cell + 1] - gains[cell]) / (end - begin)
            if slope:
                numbers = [round(x * (gain + n * slope)) for n, x in enumerate(channel[begin:end])]
            else:
                numbers = [round(x * gain) for x in channel[begin:end]]
            samples.fromlist(numbers)
        limited.append(samples)
    return limited


def _edge_gains(channels: Sequence[array[float]], edges: Sequence[int], factor: float) -> list[float]:
    """Return the gain at each edge of the 1 ms cells; between two edges it runs in a straight line.

    Three steps: the gain each cell's peak allows; at each edge the least of all cells within reach; the mean
    over the reach. The mean of numbers none of which is above what a cell allows is itself not above it, so
    no peak slips through.
    """
    cells = len(edges) - 1
    allowed = [factor] * cells
    for channel in channels:
        for cell in range(cells):
            samples = channel[edges[cell] : edges[cell + 1]]
            peak = max(max(samples), -min(samples))
            if peak * allowed[cell] > _CEILING:
                allowed[cell] = _CEILING / peak
    if min(allowed) == factor:
        return [factor] * (cells + 1)
    reach = _REACH_CELLS
    # An edge touches two cells, and the mean below takes in the edges up to `reach` away: each of them has to
    # know of both cells. Edges before the first and after the last one stand in where the mean goes over an
    # end.
    least = [min(allowed[max(0, edge - reach - 1) : edge + reach + 1]) for edge in range(-reach, cells + reach + 1)]
    width = 2 * reach + 1
    around = (least[edge : edge + width] for edge in range(cells + 1))
    # Where nothing is limited the gain stays exactly `factor`, which _limited multiplies by faster.
    return [factor if min(values) == factor else sum(values) / width for values in around]
