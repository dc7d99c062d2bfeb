"""Times as the Lambda API writes them, from milliseconds since the Unix epoch."""

import time


def with_offset(wall_ms: int) -> str:
    """Such as 2026-11-26T10:00:00.000+0000: functions and layers."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(wall_ms // 1_000))}.{wall_ms % 1_000:03d}+0000"


def without_fraction(wall_ms: int) -> str:
    """Such as 2026-11-26T10:00:00+0000: provisioned concurrency."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(wall_ms // 1_000))


def zulu(wall_ms: int) -> str:
    """Such as 2026-11-26T10:00:00.000000000Z: function URLs."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(wall_ms // 1_000))}.{wall_ms % 1_000:03d}000000Z"
