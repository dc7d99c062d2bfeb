"""Settings of a host of sandboxes."""

import dataclasses

from services.runtime.tiers import AUTO, HOST_NETWORK, ISOLATED_NETWORK, TIERS
from services.runtime.uids import FIRST_UID
from services.shared.settings import NodeSettings, setting


@dataclasses.dataclass(frozen=True, slots=True)
class RuntimeSettings(NodeSettings):
    """Bounds of the pool, of waiting, of logs and of a sandbox."""

    max_sandboxes: int = setting(
        "runtime.max_sandboxes", 64, minimum=1, maximum=500, help="Sandboxes at once; also the slots told to control."
    )
    memory_mb: int = setting(
        "runtime.memory_mb",
        0,
        minimum=0,
        maximum=1 << 30,
        help="Memory sizes of all sandboxes together, MiB; 0: three quarters of the machine's memory or cgroup limit.",
    )
    max_parallel_starts: int = setting(
        "runtime.max_parallel_starts", 4, minimum=1, maximum=64, help="Cold starts under way at once."
    )
    starts_per_10_seconds: int = setting(
        "runtime.starts_per_10_seconds",
        1_000,
        minimum=1,
        maximum=1_000_000,
        help="Sandboxes that a function may start in 10 seconds on all hosts together; each host has an equal part.",
    )
    idle_seconds: float = setting(
        "runtime.idle_seconds", 600.0, minimum=0.05, maximum=86_400, help="An idle sandbox ends after this time."
    )
    scale_after_ms: float = setting(
        "runtime.scale_after_ms",
        5.0,
        minimum=0,
        maximum=60_000,
        help="An async invocation waits this long for a warm sandbox before a further one is started.",
    )
    scale_backlog_ms: float = setting(
        "runtime.scale_backlog_ms",
        25.0,
        minimum=0,
        maximum=60_000,
        help="While handlers turn over fast, a further sandbox starts only when what waits needs longer than this.",
    )
    max_wait_ms: int = setting(
        "runtime.max_wait_ms",
        2_000,
        minimum=1,
        maximum=900_000,
        help="Longest wait for a sandbox if the caller says 0.",
    )
    max_waiting: int = setting(
        "runtime.max_waiting", 4_000, minimum=1, maximum=100_000, help="Invocations that wait for a sandbox at once."
    )
    init_seconds: float = setting(
        "runtime.init_seconds", 10.0, minimum=0.1, maximum=900, help="Longest time to load a handler."
    )
    preload: str = setting(
        "runtime.preload", "boto3", help="Modules the prepared parent imports, separated by commas; empty: none."
    )
    pythons: str = setting(
        "runtime.pythons", "", help="Further Pythons to offer, as paths separated by commas; PATH is looked into, too."
    )
    node: str = setting(
        "runtime.node", "", help="Node.js programs to offer, as paths separated by commas; empty: PATH."
    )
    node_client: str = setting(
        "runtime.node_client",
        "",
        help="Folder node_modules with aws-lambda-ric, for packages that do not bring it; empty: that of `make node`.",
    )
    log_bytes: int = setting(
        "runtime.log_bytes",
        16_777_216,
        minimum=65_536,
        maximum=1 << 40,
        help="A function's log file is rotated at this size.",
    )
    output_bytes: int = setting(
        "runtime.output_bytes",
        1_048_576,
        minimum=4_096,
        maximum=1 << 30,
        help="Output kept of one invocation; the rest is dropped with a word in the log.",
    )
    spare_sandboxes: int = setting(
        "runtime.spare_sandboxes",
        2,
        minimum=0,
        maximum=64,
        help="Blank sandboxes kept at hand, so that a cold start need only load the handler.",
    )
    endpoint_url: str = setting(
        "runtime.endpoint_url",
        "",
        help="URL of the fleet's HTTP door as functions reach it, for their own calls of Lambda; empty: AWS's.",
    )
    isolation: str = setting(
        "sandbox.isolation",
        AUTO,
        choices=(AUTO, *TIERS),
        help="auto: the strongest this machine offers; a tier: exactly that one, or the host does not start.",
    )
    required_tier: str = setting(
        "sandbox.require",
        "",
        choices=("", *TIERS),
        help="The weakest tier to run functions in: the host does not start with less.",
    )
    network: str = setting(
        "sandbox.network",
        HOST_NETWORK,
        choices=(HOST_NETWORK, ISOLATED_NETWORK),
        help="host: a function reaches what the host reaches; isolated: nothing.",
    )
    cgroup: str = setting(
        "sandbox.cgroup", "", help="Folder of a cgroup (version 2) delegated to this user; empty: the host's own."
    )
    cpu: str = setting(
        "sandbox.cpu",
        "weight",
        choices=("weight", "quota"),
        help="A function's part of a processor (1,769 MB: one) as a weight among others, or as AWS's hard quota.",
    )
    tmp_mb: int = setting(
        "sandbox.tmp_mb",
        512,
        minimum=1,
        maximum=10_240,
        help="Mebibytes that a /tmp may hold, unless the function says how many.",
    )
    term_grace_ms: int = setting(
        "sandbox.term_grace_ms",
        200,
        minimum=0,
        maximum=10_000,
        help="Between SIGTERM and SIGKILL for a sandbox that timed out.",
    )
    first_uid: int = setting(
        "sandbox.first_uid",
        FIRST_UID,
        minimum=1_000,
        maximum=4_000_000_000,
        help="Sandboxes run as uids from here on, in blocks of 1,024 a host, when the host runs as root.",
    )
    max_files: int = setting("sandbox.max_files", 1_024, minimum=64, maximum=1_048_576, help="Open files of a process.")
    max_processes: int = setting(
        "sandbox.max_processes", 1_024, minimum=8, maximum=1_048_576, help="Processes and threads of a sandbox."
    )
    max_file_bytes: int = setting(
        "sandbox.max_file_bytes", 10_737_418_240, minimum=1_048_576, maximum=1 << 50, help="Size of one file."
    )
