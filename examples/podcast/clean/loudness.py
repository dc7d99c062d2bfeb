"""Integrated loudness of a recording in LUFS, as Recommendation ITU-R BS.1770-4, Annex 1, defines it.

K-weighting (two second-order filters), mean square over 400 ms blocks that overlap by 75 %, then an absolute
gate at -70 LUFS and a relative one 10 LU under what is left.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

BLOCK_STEPS = 4
"""A gating block is 400 ms long and one begins every 100 ms: four steps, three shared with the next."""
STEPS_PER_SECOND = 10
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
_OFFSET = -0.691  # makes up for the K-weighting's gain at 997 Hz (BS.1770-4, equation 2)


class Biquad(NamedTuple):
    """A second-order filter: y[n] = b0 x[n] + b1 x[n-1] + b2 x[n-2] - a1 y[n-1] - a2 y[n-2]."""

    b0: float
    b1: float
    b2: float
    a1: float
    a2: float


def k_weighting(sample_rate_hz: int) -> tuple[Biquad, Biquad]:
    """Return the two filters of the K-weighting (high shelf for the head, high pass) for a sample rate.

    BS.1770-4 prints coefficients for 48 kHz only and asks for "the same frequency response" elsewhere. The
    corner frequencies, gain and qualities below are those of its two filters before the bilinear transform;
    at 48 kHz they give its tables 1 and 2 again, to the last digit that matters (a test compares).
    """
    # Stage 1: high shelf of +4 dB above about 1.7 kHz.
    k = math.tan(math.pi * 1681.974450955533 / sample_rate_hz)
    quality = 0.7071752369554196
    high = 10.0 ** (3.999843853973347 / 20.0)
    band = high**0.4996667741545416
    a0 = 1.0 + k / quality + k * k
    shelf = Biquad(
        (high + band * k / quality + k * k) / a0,
        2.0 * (k * k - high) / a0,
        (high - band * k / quality + k * k) / a0,
        2.0 * (k * k - 1.0) / a0,
        (1.0 - k / quality + k * k) / a0,
    )
    # Stage 2: high pass at about 38 Hz; the recommendation leaves its numerator at 1, -2, 1.
    k = math.tan(math.pi * 38.13547087602444 / sample_rate_hz)
    quality = 0.5003270373238773
    a0 = 1.0 + k / quality + k * k
    high_pass = Biquad(1.0, -2.0, 1.0, 2.0 * (k * k - 1.0) / a0, (1.0 - k / quality + k * k) / a0)
    return shelf, high_pass


def integrated_lufs(channels: Sequence[Sequence[float]], sample_rate_hz: int, full_scale: float = 1.0) -> float | None:
    """Return the integrated loudness in LUFS of one (mono) or two (left, right) channels.

    `full_scale` is the sample value of 0 dBFS. None where no block is above the absolute gate: silence, or
    less than 400 ms of sound. Both channels weigh 1.0 (BS.1770-4, table 3).
    """
    steps = len(channels[0]) * STEPS_PER_SECOND // sample_rate_hz
    edges = [step * sample_rate_hz // STEPS_PER_SECOND for step in range(steps + 1)]
    energies = [0.0] * steps
    for channel in channels:
        for step, energy in enumerate(_step_energies(channel, edges, sample_rate_hz)):
            energies[step] += energy
    sums = [0.0, *accumulate(energies)]
    scale = 1.0 / (full_scale * full_scale)
    powers = [
        max(0.0, sums[step + BLOCK_STEPS] - sums[step]) * scale / (edges[step + BLOCK_STEPS] - edges[step])
        for step in range(steps - BLOCK_STEPS + 1)
    ]
    audible = _above(powers, ABSOLUTE_GATE_LUFS)
    if not audible:
        return None
    counted = _above(audible, _lufs(sum(audible) / len(audible)) + RELATIVE_GATE_LU)
    return _lufs(sum(counted) / len(counted))


def _lufs(power: float) -> float:
    return _OFFSET + 10.0 * math.log10(power)


def _above(powers: Sequence[float], gate_lufs: float) -> list[float]:
    gate_power = 10.0 ** ((gate_lufs - _OFFSET) / 10.0)
    return [power for power in powers if power > gate_power]


def _step_energies(samples: Sequence[float], edges: Sequence[int], sample_rate_hz: int) -> list[float]:
    """Return the sum of the squared K-weighted samples in each 100 ms step.

    The loop runs once per sample and is the costliest of this function: both filters are written out in it
    (transposed direct form II) and their states are local names.
    """
    (b0, b1, b2, a1, a2), (_, _, _, c1, c2) = k_weighting(sample_rate_hz)
    s1 = s2 = t1 = t2 = 0.0
    energies = []
    for begin, end in pairwise(edges):
        energy = 0.0
        for x in samples[begin:end]:
            y = b0 * x + s1
            s1 = b1 * x - a1 * y + s2
            s2 = b2 * x - a2 * y
            z = y + t1
            t1 = t2 - 2.0 * y - c1 * z
            t2 = y - c2 * z
            energy += z * z
        energies.append(energy)
    return energies


def peak_dbfs(channels: Sequence[array[int]], full_scale: float) -> float | None:
    """Return the largest sample's level in dB under full scale; None for digital silence."""
    peak = max(max(max(channel), -min(channel)) for channel in channels)
    return 20.0 * math.log10(peak / full_scale) if peak else None
