"""How long to wait before the next try."""


def exponential_ms(failures: int, base_ms: float, cap_ms: float) -> float:
    """base * 2^(failures - 1), at most the cap; 0 failures wait 0."""
    if failures <= 0:
        return 0.0
    # 2**63 would outgrow any cap: bound the exponent so that the power stays a small number.
    return float(min(cap_ms, base_ms * (1 << min(failures - 1, 62))))


def equal_jitter_ms(failures: int, base_ms: float, cap_ms: float, unit_random: float) -> float:
    """A wait drawn between half of the exponential wait and all of it; `unit_random` is within [0, 1)."""
    wait_ms = exponential_ms(failures, base_ms, cap_ms)
    return wait_ms * (0.5 + 0.5 * unit_random)
