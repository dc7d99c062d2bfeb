"""Settings of the frontend."""

import dataclasses

from services.policy.shard_choice import DEFAULT_POLICY, MAX_CHOICES, POLICIES
from services.shared.aws import AwsSettings
from services.shared.settings import setting

OPEN, STRICT = "open", "strict"


@dataclasses.dataclass(frozen=True, slots=True)
class FrontendSettings(AwsSettings):
    """The doors' addresses, bounds and times."""

    http_listen: str = setting("http.listen", "127.0.0.1:9000", help="HOST:PORT of the AWS Lambda HTTP API.")
    grpc_listen: str = setting("grpc.listen", "127.0.0.1:9001", help="HOST:PORT of the gRPC door.")
    auth_mode: str = setting(
        "auth.mode",
        OPEN,
        choices=(OPEN, STRICT),
        help="open: any caller may do everything; strict: requests are signed. Doors beyond loopback need strict.",
    )
    max_connections: int = setting(
        "http.max_connections", 2_048, minimum=1, maximum=100_000, help="HTTP connections open at once."
    )
    idle_seconds: float = setting(
        "http.idle_seconds", 75.0, minimum=1, maximum=3_600, help="An idle HTTP connection is closed after this time."
    )
    request_seconds: float = setting(
        "http.request_seconds", 60.0, minimum=1, maximum=3_600, help="Longest time a request takes to arrive whole."
    )
    max_pending_events: int = setting(
        "frontend.max_pending_events", 20_000, minimum=1, maximum=1_000_000, help="Events not yet durable at once."
    )
    max_pending_bytes: int = setting(
        "frontend.max_pending_bytes",
        268_435_456,
        minimum=8_388_608,
        maximum=1 << 40,
        help="Bytes of those events, and apart from them of request bodies that are still arriving.",
    )
    max_pending_invocations: int = setting(
        "frontend.max_pending_invocations", 5_000, minimum=1, maximum=100_000, help="Synchronous invocations at once."
    )
    hold_ms: int = setting(
        "frontend.hold_ms", 3_000, minimum=0, maximum=60_000, help="How long an event waits for a healthy shard."
    )
    resend_ms: int = setting(
        "frontend.resend_ms",
        5_000,
        minimum=0,
        maximum=60_000,
        help="How long an enqueue of unknown outcome is tried again on its shard.",
    )
    place_ms: int = setting(
        "frontend.place_ms", 2_000, minimum=0, maximum=60_000, help="How long an invocation waits for a host's credit."
    )
    run_margin_ms: int = setting(
        "frontend.run_margin_ms",
        15_000,
        minimum=100,
        maximum=300_000,
        help="Time beyond a function's timeout, for its start, after which a synchronous caller is answered anyway.",
    )
    shard_choice: str = setting(
        "frontend.shard_choice", DEFAULT_POLICY, choices=POLICIES, help="How a new event finds its shard."
    )
    choice_run: int = setting(
        "frontend.choice_run",
        32,
        minimum=1,
        maximum=1_000,
        help="Events of a tenant that arrive within 2 ms share a shard choice, up to so many; 1: each has its own.",
    )
    shard_choice_d: int = setting(
        "frontend.shard_choice_d", 2, minimum=1, maximum=MAX_CHOICES, help="Candidates of best_of_d."
    )
    depth_interval_ms: int = setting(
        "frontend.depth_interval_ms", 50, minimum=10, maximum=10_000, help="Shortest time between two depth reports."
    )
