"""What one soak run does: its length, its fleet, its load, its retentions. Pure but for the folder that is deployed."""

from dataclasses import dataclass
from pathlib import Path

from loadtest.arrivals.shapes import Shape
from loadtest.open_loop.spec import Traffic
from loadtest.plan.rig import FleetAsked
from loadtest.workloads import deploy
from loadtest.workloads.deploy import Functions
from loadtest.workloads.handler import BUCKET
from loadtest.workloads.work import Work
from services.queue.outcomes import STRETCHES_BY_TIME

MIN_MINUTES, MAX_MINUTES = 2.0, 24 * 60.0
MIN_RATE, MAX_RATE = 1.0, 2_000.0
MIN_SAMPLE_SECONDS, MAX_SAMPLE_SECONDS = 1.0, 300.0
# Samples after the warm-up: a slope over fewer says nothing.
MIN_JUDGED_SAMPLES = 20
QUEUES, POLLERS, RUNTIMES, SHARDS = 2, 2, 2, 8
# Events that the fleet keeps: of a sixth of the run, so that a third of it fills the tables.
KEEP_PART, WARM_UP_PART = 1 / 6, 1 / 3
MIN_OUTCOME_KEEP_SECONDS = 10
# As short as queue.dead_letter_keep_seconds goes.
MIN_DEAD_LETTER_KEEP_SECONDS = 60
# Beyond the retention, until the first rows have been dropped.
SETTLE_SECONDS = 10.0
FAIL_RATE = 0.03
SLEEP_MS = 10.0
PROBES_PER_SECOND = 2.0
# Through the HTTP door, its failures to a destination; through the gRPC door, its failures to the dead letters. One
# host could run both: the names prefer one each (services.policy.placement.rank_hosts).
DESTINED, DYING = deploy.FUNCTION, "load-doomed"
HTTP_RUN, GRPC_RUN = 1, 2
LOG_BYTES, TRACE_BYTES = 256 << 10, 256 << 10
CHECKPOINT_PAGES = 1_000

_DYING_TABLE = f"""
[[functions]]
name = "{DYING}"
code = "code"
handler = "app.handler"
runtime = "python3"
timeout_seconds = 60
memory_mb = 128

[[functions.buckets]]
name = "{BUCKET}"
access = "write"

[functions.async]
maximum_retry_attempts = 1
"""


@dataclass(frozen=True, slots=True)
class SoakPlan:
    """One run. minutes: of load; rate: events a second, half through each door; sample_seconds: between two looks."""

    minutes: float = 30.0
    rate: float = 100.0
    sample_seconds: float = 10.0

    def __post_init__(self) -> None:
        """ValueError: out of bounds, or too few samples to judge by; the message says what to do."""
        for name, value, least, most in (
            ("--minutes", self.minutes, MIN_MINUTES, MAX_MINUTES),
            ("--rate", self.rate, MIN_RATE, MAX_RATE),
            ("--sample-seconds", self.sample_seconds, MIN_SAMPLE_SECONDS, MAX_SAMPLE_SECONDS),
        ):
            if not least <= value <= most:
                raise ValueError(f"{name} must be within {least:g} to {most:g}, not {value:g}")
        if (self.seconds - self.warm_up_seconds) / self.sample_seconds < MIN_JUDGED_SAMPLES:
            raise ValueError(
                f"{self.minutes:g} minutes with a look every {self.sample_seconds:g} s leave fewer than "
                f"{MIN_JUDGED_SAMPLES} looks after the warm-up of {self.warm_up_seconds:.0f} s: "
                "give more --minutes or fewer --sample-seconds"
            )

    @property
    def seconds(self) -> float:
        """Of load."""
        return self.minutes * 60.0

    @property
    def outcome_keep_seconds(self) -> int:
        """What queue.outcome_keep_seconds is set to."""
        return max(MIN_OUTCOME_KEEP_SECONDS, int(self.seconds * KEEP_PART))

    @property
    def dead_letter_keep_seconds(self) -> int:
        """What queue.dead_letter_keep_seconds is set to."""
        return max(MIN_DEAD_LETTER_KEEP_SECONDS, int(self.seconds * KEEP_PART))

    @property
    def warm_up_seconds(self) -> float:
        """From the begin of the load; growth in it is by design."""
        # An outcome goes with the last of its table, which is open for a 24th of the time kept.
        full = max(self.outcome_keep_seconds * (1 + 1 / STRETCHES_BY_TIME), self.dead_letter_keep_seconds)
        return max(self.seconds * WARM_UP_PART, full + SETTLE_SECONDS)

    @property
    def wal_bound_bytes(self) -> float:
        """Of all shards' WALs: a checkpoint comes after CHECKPOINT_PAGES, and after the transaction that passed it."""
        frame_bytes, transaction_pages = 4_096 + 24, 512
        return SHARDS * (CHECKPOINT_PAGES + transaction_pages) * frame_bytes

    @property
    def expected_outcomes(self) -> float:
        """Rows in a steady state: the door's events, the destination's, the probes', each for the time it is kept."""
        per_second = self.rate * (1 + FAIL_RATE / 2) + PROBES_PER_SECOND
        return per_second * self.outcome_keep_seconds * (1 + 1 / STRETCHES_BY_TIME)

    @property
    def expected_dead_letters(self) -> float:
        """Rows in a steady state: half of the events go where failures die."""
        return self.rate / 2 * FAIL_RATE * self.dead_letter_keep_seconds

    def fleet(self) -> FleetAsked:
        """Every store's bound is small, so that it is reached in the warm-up."""
        settings = {
            "queue.outcome_keep_seconds": str(self.outcome_keep_seconds),
            "queue.dead_letter_keep_seconds": str(self.dead_letter_keep_seconds),
            "queue.checkpoint_pages": str(CHECKPOINT_PAGES),
            "retry.base_seconds": "2",
            "trace.store_bytes": str(TRACE_BYTES),
            "runtime.log_bytes": str(LOG_BYTES),
            # Sandboxes come and go: what one of them leaves behind is seen.
            "runtime.idle_seconds": "20",
        }
        return FleetAsked(QUEUES, POLLERS, RUNTIMES, SHARDS, settings)

    def traffic(self, seed: str) -> Traffic:
        """Of one door."""
        return Traffic(Shape("poisson", self.rate / 2), self.seconds, seed)

    def work(self) -> Work:
        """Of every event."""
        return Work(sleep_ms=SLEEP_MS, fail_rate=FAIL_RATE)


def write_functions(folder: Path) -> None:
    """The folder that is deployed: both functions and the destination."""
    deploy.write_folder(folder, Functions(retries=1, destination_on="failure", destination_sleep_ms=0.0))
    with (folder / "evenflow.toml").open("a") as file:
        file.write(_DYING_TABLE)
