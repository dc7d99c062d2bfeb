"""Settings of a host of sandboxes."""

import dataclasses

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
    isolation: str = setting(
        "sandbox.isolation",
        "auto",
        choices=("auto", "0"),
        help="auto: the strongest this machine offers; 0: same user, no namespaces.",
    )
    first_uid: int = setting(
        "sandbox.first_uid",
        20_000,
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
