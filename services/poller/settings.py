"""Settings of a poller."""

import dataclasses

from services.shared.aws import AwsSettings
from services.shared.settings import setting

_MIB = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class PollerSettings(AwsSettings):
    """Bounds of what a poller holds, the retry times, and event sources."""

    max_leases: int = setting(
        "poller.max_leases", 2_000, minimum=1, maximum=100_000, help="Leases held at once, over all queue nodes."
    )
    max_lease_bytes: int = setting(
        "poller.max_lease_bytes", 64 * _MIB, minimum=2 * _MIB, maximum=1 << 36, help="Bytes of those leases."
    )
    lease_batch: int = setting(
        "poller.lease_batch", 256, minimum=1, maximum=10_000, help="Leases held ready beyond what hosts take."
    )
    max_wait_ms: int = setting(
        "poller.max_wait_ms",
        10_000,
        minimum=1,
        maximum=900_000,
        help="Longest wait of an event for a sandbox on a host.",
    )
    pending_seconds: float = setting(
        "poller.pending_seconds",
        10.0,
        minimum=0.05,
        maximum=3_600,
        help="A lease that found no host for so long goes back to its shard.",
    )
    run_margin_seconds: float = setting(
        "poller.run_margin_seconds",
        45.0,
        minimum=1,
        maximum=3_600,
        help="Beyond timeout and wait, how long an outcome may take before it counts as lost.",
    )
    delivery_seconds: float = setting(
        "poller.delivery_seconds",
        10.0,
        minimum=0.05,
        maximum=3_600,
        help="How long a record waits for a door before its delivery counts as failed.",
    )
    delivery_tries: int = setting(
        "poller.delivery_tries",
        3,
        minimum=1,
        maximum=100,
        help="Tries at a destination that refuses for good before the event is a dead letter.",
    )
    delivery_keep_seconds: float = setting(
        "poller.delivery_keep_seconds",
        21_600.0,
        minimum=1,
        maximum=1_209_600,
        help="How long a destination that is down is tried before the event is a dead letter.",
    )
    settle_keep_seconds: float = setting(
        "poller.settle_keep_seconds",
        60.0,
        minimum=1,
        maximum=3_600,
        help="How long a settlement that a shard cannot take now is tried again.",
    )
    retry_base_seconds: float = setting(
        "retry.base_seconds", 60.0, minimum=0, maximum=3_600, help="Wait after the first function error; then twice it."
    )
    retry_throttle_base_seconds: float = setting(
        "retry.throttle_base_seconds",
        1.0,
        minimum=0.001,
        maximum=3_600,
        help="Wait after the first throttle or system error; doubles from there.",
    )
    retry_throttle_cap_seconds: float = setting(
        "retry.throttle_cap_seconds", 300.0, minimum=0.001, maximum=21_600, help="Longest such wait."
    )
    retry_age_scale: float = setting(
        "retry.age_scale",
        1.0,
        minimum=0.0001,
        maximum=1,
        help="Functions' maximum event ages count for so much of what they say: to see hours in seconds.",
    )
    source_rescan_seconds: float = setting(
        "source.rescan_seconds",
        60.0,
        minimum=0.05,
        maximum=86_400,
        help="How often a bucket is compared with its journal, in case notices were lost.",
    )
    source_in_flight: int = setting(
        "source.in_flight", 64, minimum=1, maximum=1_000, help="Events of one source on their way to the door at once."
    )
    source_max_objects: int = setting(
        "source.max_objects", 200_000, minimum=1, maximum=10_000_000, help="Most files of one bucket that are followed."
    )
    source_schedule_speed: float = setting(
        "source.schedule_speed",
        1.0,
        minimum=1,
        maximum=1_000,
        help="How many times faster than the clock the time of schedules passes, for tests and demonstrations.",
    )
    source_sqs_margin_seconds: int = setting(
        "source.sqs_margin_seconds",
        10,
        minimum=0,
        maximum=900,
        help="Beyond function timeout and batching window, how long messages are kept from others: for a cold start.",
    )
    source_sqs_wait_seconds: int = setting(
        "source.sqs_wait_seconds",
        3,
        minimum=0,
        maximum=20,
        help="Longest wait of a receive at an empty queue: longer is fewer requests, and a slower stop.",
    )
    source_sqs_polls: int = setting(
        "source.sqs_polls", 16, minimum=1, maximum=256, help="Receives of all SQS mappings of a poller at once."
    )
    source_sqs_batches: int = setting(
        "source.sqs_batches",
        200,
        minimum=1,
        maximum=1_000,
        help="Batches of one mapping at once where it has no maximum concurrency of its own.",
    )
    source_sqs_bytes: int = setting(
        "source.sqs_bytes",
        128 * _MIB,
        minimum=8 * _MIB,
        maximum=1 << 36,
        help="Bytes of records of all SQS mappings of a poller beyond which nothing more is received.",
    )
