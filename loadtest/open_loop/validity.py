"""Whether a run says something about the fleet, or only about its own generator. Pure."""

# A send that leaves so long after its time is late; its latency counts from its time all the same.
LATE_MS = 10.0
# Beyond these the run is void (design: capacity).
MAX_LATE_PART = 0.01
MAX_GENERATOR_CPU = 0.70


def void_reasons(planned: int, late: int, generator_cpu: float) -> tuple[str, ...]:
    """Why the run counts for nothing; empty: it counts.

    late: sends that came to their turn more than LATE_MS after their time. One that was dropped in time is none of
    them: as many as the driver may have were under way, since the fleet had not answered. generator_cpu: the busiest
    driver process's CPU time over the run's time, 0 to 1 of one core, as each is one thread.
    """
    reasons: list[str] = []
    if not planned:
        return ("nothing was sent",)
    if (part := late / planned) > MAX_LATE_PART:
        reasons.append(
            f"{100 * part:.2f} % of the sends were late ({late:,} of {planned:,}; "
            f"{100 * MAX_LATE_PART:.0f} % are allowed)"
        )
    if generator_cpu > MAX_GENERATOR_CPU:
        reasons.append(
            f"the generator used {100 * generator_cpu:.1f} % of a core ({100 * MAX_GENERATOR_CPU:.0f} % are allowed): "
            "add drivers or lower the rate"
        )
    return tuple(reasons)
