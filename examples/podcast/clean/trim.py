"""Finds the silence before the first and after the last sound of a recording."""

from __future__ import annotations

from operator import mul
from typing import NamedTuple

from wav import Recording

WINDOWS_PER_SECOND = 100
"""Levels are taken over 10 ms: shorter than any syllable, longer than a wave of a deep voice."""
THRESHOLD_DB = -38.0
"""What is this far under the loudest window is silence: relative, because recordings come at any level."""
SILENCE_DBFS = -70.0
"""A recording whose loudest window is under this has no sound in it to find."""
PADDING_BEFORE_SECONDS = 0.10
PADDING_AFTER_SECONDS = 0.25
"""Kept around the sound; longer after it, since words and rooms fade out more slowly than they begin."""


class Span(NamedTuple):
    """The frames `begin` (included) to `end` (excluded) of a recording."""

    begin: int
    end: int


def sounding_span(recording: Recording) -> Span:
    """Return the part to keep: from the first to the last window above the threshold, with padding.

    A recording that is silent throughout is kept whole: there is nothing to tell its middle from its ends.
    """
    frames, rate = recording.frames, recording.sample_rate_hz
    windows = -(-frames * WINDOWS_PER_SECOND // rate)
    edges = [min(frames, w * rate // WINDOWS_PER_SECOND) for w in range(windows)] + [frames]
    powers = [0.0] * windows
    for channel in recording.channels:
        for w in range(windows):
            window = channel[edges[w] : edges[w + 1]]
            # The louder channel counts, so that a voice on one side only is not half as loud.
            powers[w] = max(powers[w], sum(map(mul, window, window)) / max(1, len(window)))
    loudest = max(powers)
    if loudest < 10.0 ** (SILENCE_DBFS / 10.0):
        return Span(0, frames)
    threshold = loudest * 10.0 ** (THRESHOLD_DB / 10.0)
    sounding = [w for w, power in enumerate(powers) if power >= threshold]
    begin = edges[sounding[0]] - round(PADDING_BEFORE_SECONDS * rate)
    end = edges[sounding[-1] + 1] + round(PADDING_AFTER_SECONDS * rate)
    return Span(max(0, begin), min(frames, end))
