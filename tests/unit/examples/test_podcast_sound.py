"""Loudness, trimming and levelling against figures from the recommendations and against known sounds."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType

import pytest

from tests.unit.examples.podcast_kit import flat, silence, sine

Code = dict[str, ModuleType]
RATE_HZ = 16_000
CEILING = int(10 ** (-1 / 20) * 32768)


def floats(samples: Sequence[float]) -> array[float]:
    """Return samples as the example holds them."""
    return array("f", samples)


def test_k_weighting_at_48_khz_is_the_recommendations(clean_code: Code) -> None:
    """ITU-R BS.1770-4, Annex 1, tables 1 and 2, all digits that they print."""
    shelf, high_pass = clean_code["loudness"].k_weighting(48_000)
    table_1 = (1.53512485958697, -2.69169618940638, 1.19839281085285, -1.69065929318241, 0.73248077421585)
    assert shelf == pytest.approx(table_1, abs=1e-13)
    assert high_pass == pytest.approx((1.0, -2.0, 1.0, -1.99004745483398, 0.99007225036621), abs=1e-13)


@pytest.mark.parametrize(("rate_hz", "tolerance"), [(48_000, 0.01), (44_100, 0.01), (16_000, 0.1), (8_000, 0.1)])
def test_full_scale_sine_is_minus_3_lufs(clean_code: Code, rate_hz: int, tolerance: float) -> None:
    """BS.1770-4, Annex 1: a 0 dBFS sine of 997 Hz in one channel shall indicate -3.01 LKFS.

    At low rates the bilinear transform bends the filters a little; EBU Tech 3341 allows a meter 0.1 LU.
    """
    lufs = clean_code["loudness"].integrated_lufs([floats(sine(997, 0, 1.5, rate_hz))], rate_hz)
    assert lufs == pytest.approx(-3.01, abs=tolerance)


def test_both_channels_add_up(clean_code: Code) -> None:
    """EBU Tech 3341, test case 1: a stereo sine of 1 kHz at -23 dBFS is -23.0 LUFS, +-0.1."""
    channel = floats(sine(1000, -23, 2, 48_000))
    measure = clean_code["loudness"].integrated_lufs
    assert measure([channel, channel], 48_000) == pytest.approx(-23.0, abs=0.1)
    assert measure([channel], 48_000) == pytest.approx(-26.0, abs=0.1)


def test_the_relative_gate_leaves_quiet_passages_out(clean_code: Code) -> None:
    """EBU Tech 3341, test case 3 at half length: -36, -23, -36 dBFS is -23.0 LUFS (-24.2 ungated)."""
    parts = [sine(1000, -36, 5, 8_000), sine(1000, -23, 30, 8_000), sine(1000, -36, 5, 8_000)]
    channel = floats(flat(parts))
    assert clean_code["loudness"].integrated_lufs([channel, channel], 8_000) == pytest.approx(-23.0, abs=0.1)


def test_the_absolute_gate_leaves_silence_out(clean_code: Code) -> None:
    """Sound under -70 LUFS, silence, and less than one block of 400 ms have no loudness."""
    measure = clean_code["loudness"].integrated_lufs
    assert measure([floats(sine(1000, -75, 1, RATE_HZ))], RATE_HZ) is None
    assert measure([floats(silence(1, RATE_HZ))], RATE_HZ) is None
    assert measure([floats(sine(1000, -10, 0.399, RATE_HZ))], RATE_HZ) is None
    assert measure([floats(sine(1000, -10, 0.4, RATE_HZ))], RATE_HZ) is not None


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 44_100])
@pytest.mark.parametrize("level_dbfs", [-6, -40])
def test_silence_at_both_ends_is_found(clean_code: Code, rate_hz: int, level_dbfs: float) -> None:
    """What is kept begins 0.1 s before and ends 0.25 s after the tone, to one window, at any level."""
    room = sine(60, level_dbfs - 50, 1.0, rate_hz)
    channel = floats(flat([room, sine(440, level_dbfs, 0.7, rate_hz), room]))
    recording = clean_code["wav"].Recording(rate_hz, [channel])
    span = clean_code["trim"].sounding_span(recording)
    assert span.begin / rate_hz == pytest.approx(0.90, abs=0.011)
    assert span.end / rate_hz == pytest.approx(1.95, abs=0.011)


def test_sound_on_one_side_only_counts(clean_code: Code) -> None:
    """A voice in the right channel alone is not trimmed away."""
    quiet = floats(silence(2, RATE_HZ))
    voice = floats(flat([silence(0.5, RATE_HZ), sine(440, -20, 1, RATE_HZ), silence(0.5, RATE_HZ)]))
    span = clean_code["trim"].sounding_span(clean_code["wav"].Recording(RATE_HZ, [quiet, voice]))
    assert (span.begin, span.end) == pytest.approx((0.4 * RATE_HZ, 1.75 * RATE_HZ), abs=0.011 * RATE_HZ)


@pytest.mark.parametrize(
    "samples", [silence(1, RATE_HZ), [2e-4] * RATE_HZ, sine(440, -3, 0.05, RATE_HZ), [0.5]], ids=str
)
def test_nothing_to_trim_keeps_all(clean_code: Code, samples: list[float]) -> None:
    """Silence throughout, and sound up to both ends, are kept whole."""
    recording = clean_code["wav"].Recording(RATE_HZ, [floats(samples)])
    assert clean_code["trim"].sounding_span(recording) == (0, len(samples))


def test_a_steady_sound_only_changes_its_gain(clean_code: Code) -> None:
    """Where no peak reaches the ceiling every sample is multiplied by the same number."""
    channel = floats(sine(500, -30, 1, RATE_HZ))
    before = clean_code["loudness"].integrated_lufs([channel], RATE_HZ)
    result = clean_code["level"].levelled([channel], RATE_HZ, before)
    factor = 10 ** (result.gain_db / 20) * 32768
    assert result.loudness_lufs == pytest.approx(-16.0, abs=0.05)
    assert max(abs(y - x * factor) for x, y in zip(channel, result.channels[0], strict=True)) <= 0.51


def spiky() -> list[float]:
    """Return a quiet tone with a loud click every quarter second, the first and last sample among them."""
    samples = sine(500, -40, 2, RATE_HZ)
    for n in [*range(0, len(samples), RATE_HZ // 4), len(samples) - 1]:
        samples[n] = 0.9 if n % 2 else -0.9
    return samples


def test_peaks_stay_under_the_ceiling_and_loudness_is_met(clean_code: Code) -> None:
    """Clicks 39 dB over the sound do not pass -1 dBFS, and do not keep the sound from its loudness either."""
    channel = floats(spiky())
    before = clean_code["loudness"].integrated_lufs([channel], RATE_HZ)
    result = clean_code["level"].levelled([channel], RATE_HZ, before)
    peak = max(abs(y) for y in result.channels[0])
    assert CEILING - 1 <= peak <= CEILING
    assert result.loudness_lufs == pytest.approx(-16.0, abs=0.3)
    assert result.gain_db > 0


def test_the_limiters_gain_moves_without_a_jump(clean_code: Code) -> None:
    """From sample to sample the gain changes by less than 1 %, also around a click: it makes none itself."""
    channel = floats([0.1 if n != 8_000 else 1.0 for n in range(RATE_HZ)])
    (limited,) = clean_code["level"]._limited([channel], 2.0 * 32768, RATE_HZ)
    gains = [y / x for x, y in zip(channel, limited, strict=True)]
    assert min(gains) < 0.5 * max(gains), "the click must be limited, or this proves nothing"
    assert max(abs(b - a) / a for a, b in pairwise(gains)) < 0.01


def test_both_channels_are_limited_alike(clean_code: Code) -> None:
    """A click on the left turns the right down as much, so that the voice does not wander."""
    left, right = floats(spiky()), floats(sine(500, -20, 2, RATE_HZ))
    limited = clean_code["level"]._limited([left, right], 3.0 * 32768, RATE_HZ)
    at = RATE_HZ // 4 + 8  # the tone's crest half a millisecond after a click
    assert limited[1][at] / (right[at] * 32768) == pytest.approx(limited[0][at] / (left[at] * 32768), rel=0.02)
    assert limited[1][at] / (right[at] * 32768) < 2.0


def test_too_loud_is_brought_down(clean_code: Code) -> None:
    """Normalising goes both ways."""
    channel = floats(sine(997, 0, 1, RATE_HZ))
    result = clean_code["level"].levelled([channel], RATE_HZ, -3.01)
    assert result.gain_db == pytest.approx(-12.99, abs=0.1)
    assert result.loudness_lufs == pytest.approx(-16.0, abs=0.1)


def test_gain_is_bounded(clean_code: Code) -> None:
    """A recording that is all but silent is raised by the named bound and no more."""
    level = clean_code["level"]
    result = level.levelled([floats(sine(997, -62, 1, RATE_HZ))], RATE_HZ, -65.0)
    assert result.gain_db == level.MAX_GAIN_DB
    assert result.loudness_lufs == pytest.approx(-25.0, abs=0.2)


def test_silence_keeps_its_level(clean_code: Code) -> None:
    """Without a loudness there is nothing to correct, and nothing is divided by it."""
    result = clean_code["level"].levelled([floats(silence(1, RATE_HZ))], RATE_HZ, None)
    assert (result.gain_db, result.loudness_lufs) == (0.0, None)
    assert not any(result.channels[0])
    assert not math.isnan(result.gain_db)
