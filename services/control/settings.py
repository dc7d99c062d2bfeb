"""Settings of control."""

from dataclasses import dataclass

from services.shared.settings import NodeSettings, setting

DEFAULT_ACCOUNT_ID = "123456789012"
DEFAULT_REGION = "us-east-1"
DEFAULT_ACCOUNT_CONCURRENCY = 1_000
DEFAULT_SHARDS = 8
DEFAULT_QUEUE_NODES = "queue-0"


@dataclass(frozen=True, slots=True)
class ControlSettings(NodeSettings):
    """What a new fleet is made of, and how its members are watched.

    The fleet's constants are kept in the data folder when it is made. Unset (0 or empty) means: the default for a new
    fleet, what is stored for an old one; a value that was set must agree with what is stored.
    """

    account_id: str = setting("fleet.account_id", "", help="12 digits in every ARN; a new fleet has 123456789012.")
    region: str = setting("fleet.region", "", help="Region in ARNs; a new fleet has us-east-1.")
    account_concurrency: int = setting(
        "fleet.account_concurrency",
        0,
        minimum=0,
        maximum=1_000_000,
        help="Invocations that may run at once in the account; a new fleet has 1000. May be changed later.",
    )
    shards: int = setting(
        "fleet.shards", 0, minimum=0, maximum=65_536, help="Shards of the fleet, for good; a new fleet has 8."
    )
    queue_nodes: str = setting(
        "fleet.queue_nodes", "", help="Node ids of the queue nodes, by commas; a new fleet's shards go round robin."
    )
    heartbeat_interval_ms: int = setting(
        "control.heartbeat_interval_ms", 1_000, minimum=50, maximum=60_000, help="Time between a node's heartbeats."
    )
    source_lease_ms: int = setting(
        "control.source_lease_ms", 6_000, minimum=300, maximum=600_000, help="Length of an event source's lease."
    )
    max_followers: int = setting(
        "control.max_followers", 256, minimum=1, maximum=100_000, help="Watch streams served at once."
    )
    follower_backlog: int = setting(
        "control.follower_backlog",
        1_024,
        minimum=1,
        maximum=1_000_000,
        help="Changes that may wait for one follower; one that falls further behind is cut and starts afresh.",
    )
    packages_max_bytes: int = setting(
        "control.packages_max_bytes",
        75 << 30,
        minimum=1 << 20,
        maximum=1 << 47,
        help="Bytes of stored packages; then those that no function uses make room.",
    )
