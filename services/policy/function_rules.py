"""What a function, its event sources and its reserved concurrency may look like. Pure; RuleBroken says what to do."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.policy.arns import LATEST, parse_reference

DEFAULT_TIMEOUT_MS = 3_000
MAX_TIMEOUT_MS = 900_000
DEFAULT_MEMORY_MB = 128
MAX_MEMORY_MB = 10_240
MAX_HANDLER_CHARACTERS = 128
MAX_DESCRIPTION_CHARACTERS = 256
MAX_ENVIRONMENT_BYTES = 4_096
MAX_RETRY_ATTEMPTS = 2
MIN_EVENT_AGE_SECONDS = 60
MAX_EVENT_AGE_SECONDS = 21_600
MIN_UNRESERVED = 100
MAX_BUCKETS = 16
MAX_LAYERS = 5
MAX_LAYER_NAME_CHARACTERS = 140
MAX_SOURCES = 16
MAX_EVENTS_PER_SOURCE = 8
# S3's own bound of a key.
MAX_KEY_PART_BYTES = 1_024
# "python3" is the host's own, whichever that is.
PYTHON_RUNTIMES = ("python3.11", "python3.12", "python3.13", "python3.14")
NODE_RUNTIMES = ("nodejs20.x", "nodejs22.x", "nodejs24.x")
PROVIDED_RUNTIMES = ("provided", "provided.al2", "provided.al2023")
RUNTIMES = ("python3", *PYTHON_RUNTIMES, *NODE_RUNTIMES, *PROVIDED_RUNTIMES)
BUCKET_EVENTS = ("s3:ObjectCreated:*", "s3:ObjectCreated:Put")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HANDLER = re.compile(r"[^\s/.]+([./][^\s/.]+)*\.[^\s/.]+")
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f]+")
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]+")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_RESERVED_VARIABLES = frozenset(
    (
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
    )
)
_RESERVED_PREFIX = "AWS_LAMBDA_"


class RuleBroken(ValueError):
    """A field breaks a rule; `field_name` is its name in the contract, the text a sentence for who deploys."""

    def __init__(self, field_name: str, text: str) -> None:
        super().__init__(f"{field_name}: {text}")
        self.field_name = field_name


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A function as asked for; None and 0 stand for what was not given."""

    function_name: str
    handler: str
    runtime: str
    version: str = ""
    timeout_ms: int = 0
    memory_mb: int = 0
    environment: Mapping[str, str] | None = None
    buckets: Sequence[str] = ()
    layers: Sequence[str] = ()
    snap_start: bool = False
    description: str = ""
    maximum_retry_attempts: int | None = None
    maximum_event_age_seconds: int | None = None
    on_success_arn: str = ""
    on_failure_arn: str = ""


@dataclass(frozen=True, slots=True)
class BucketSourceSpec:
    """New objects of a bucket, as asked for."""

    bucket: str
    events: tuple[str, ...]
    key_prefix: str = ""
    key_suffix: str = ""


@dataclass(frozen=True, slots=True)
class Home:
    """Where the fleet stands: what a destination's ARN must name."""

    account_id: str
    region: str


def complete(spec: FunctionSpec) -> FunctionSpec:
    """The same with AWS's defaults where nothing was given."""
    return replace(
        spec,
        version=spec.version or LATEST,
        timeout_ms=spec.timeout_ms or DEFAULT_TIMEOUT_MS,
        memory_mb=spec.memory_mb or DEFAULT_MEMORY_MB,
    )


def check_function(spec: FunctionSpec, home: Home) -> None:
    """Pass when a completed spec keeps every rule. RuleBroken: it does not."""
    check_name(spec.function_name)
    if spec.version != LATEST:
        raise RuleBroken("version", f"only {LATEST} can be put, not {spec.version[:64]!r}")
    if spec.runtime not in RUNTIMES:
        raise RuleBroken("runtime", f"{spec.runtime[:64]!r} is not offered; choose one of {', '.join(RUNTIMES)}")
    check_handler(spec.handler, spec.runtime)
    _within("timeout_ms", spec.timeout_ms, 1, MAX_TIMEOUT_MS)
    _within("memory_mb", spec.memory_mb, DEFAULT_MEMORY_MB, MAX_MEMORY_MB)
    if len(spec.description) > MAX_DESCRIPTION_CHARACTERS:
        raise RuleBroken("description", f"at most {MAX_DESCRIPTION_CHARACTERS} characters, not {len(spec.description)}")
    check_environment(spec.environment or {})
    _check_grants(spec.buckets)
    check_layers(spec.layers)
    if spec.snap_start and not spec.runtime.startswith("python"):
        raise RuleBroken("snap_start", f"Python runtimes have it, {spec.runtime} has not: leave it out")
    if spec.maximum_retry_attempts is not None:
        _within("maximum_retry_attempts", spec.maximum_retry_attempts, 0, MAX_RETRY_ATTEMPTS)
    if spec.maximum_event_age_seconds is not None:
        _within(
            "maximum_event_age_seconds", spec.maximum_event_age_seconds, MIN_EVENT_AGE_SECONDS, MAX_EVENT_AGE_SECONDS
        )
    for field_name, arn in (("on_success_arn", spec.on_success_arn), ("on_failure_arn", spec.on_failure_arn)):
        if arn:
            check_destination(field_name, arn, spec.function_name, home)


def check_name(function_name: str) -> None:
    """Pass for 1 to 64 characters of [A-Za-z0-9_-]. RuleBroken."""
    if not _NAME.fullmatch(function_name):
        raise RuleBroken("function_name", f"{function_name[:80]!r} must be 1 to 64 characters of A-Z a-z 0-9 _ -")


def check_handler(handler: str, runtime: str) -> None:
    """Pass for module.function; a `provided` runtime takes any text, which its bootstrap reads. RuleBroken."""
    is_free = runtime in PROVIDED_RUNTIMES
    form = _PRINTABLE if is_free else _HANDLER
    if len(handler) > MAX_HANDLER_CHARACTERS or not form.fullmatch(handler):
        what = "be a text, not empty" if is_free else "read module.function"
        raise RuleBroken("handler", f"{handler[:140]!r} must {what}, at most {MAX_HANDLER_CHARACTERS} characters")


def check_layers(names: Sequence[str]) -> None:
    """Pass for up to five layers with names. RuleBroken."""
    if len(names) > MAX_LAYERS:
        raise RuleBroken("layers", f"at most {MAX_LAYERS} for a function, not {len(names)}: merge some into one")
    for name in names:
        if len(name) > MAX_LAYER_NAME_CHARACTERS or not _PRINTABLE.fullmatch(name):
            raise RuleBroken("layers.name", f"{name[:80]!r} must be 1 to {MAX_LAYER_NAME_CHARACTERS} characters")


def check_environment(environment: Mapping[str, str]) -> None:
    """Pass when names are AWS's form, none is reserved, and all is at most 4 KiB. RuleBroken."""
    for name, value in environment.items():
        if name == "_HANDLER" or name == "_X_AMZN_TRACE_ID" or is_reserved(name):
            raise RuleBroken("environment", f"{name[:80]} is set by the runtime and cannot be changed; rename it")
        if not _VARIABLE.fullmatch(name):
            raise RuleBroken("environment", f"{name[:80]!r} must begin with a letter, then letters, digits and _")
        if "\x00" in value:
            raise RuleBroken("environment", f"the value of {name[:80]} has a NUL character")
    size = sum(len(name.encode()) + len(value.encode()) for name, value in environment.items())
    if size > MAX_ENVIRONMENT_BYTES:
        raise RuleBroken("environment", f"{size:,} bytes in all; at most {MAX_ENVIRONMENT_BYTES:,} are allowed")


def check_destination(field_name: str, arn: str, function_name: str, home: Home) -> None:
    """Pass for the ARN of another function of this account and region; it need not exist yet. RuleBroken."""
    try:
        named = parse_reference(arn) if arn.startswith("arn:") and ":function:" in arn else None
    except ValueError:
        named = None
    example = f"arn:aws:lambda:{home.region}:{home.account_id}:function:NAME"
    if named is None or named.account_id is None or named.region is None:
        raise RuleBroken(field_name, f"{arn[:200]!r} is no function's ARN such as {example}")
    if named.account_id != home.account_id or named.region != home.region:
        raise RuleBroken(field_name, f"{arn[:200]!r} is of another account or region; here it is {example}")
    if named.qualifier != LATEST:
        raise RuleBroken(field_name, f"{arn[:200]!r} names a version or alias; only {LATEST} is offered")
    if named.function_name == function_name:
        raise RuleBroken(field_name, "a function cannot be its own destination")


def check_bucket_name(field_name: str, bucket: str) -> None:
    """Pass for 3 to 63 characters of [a-z0-9.-] as S3 takes them. RuleBroken."""
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise RuleBroken(
            field_name,
            f"{bucket[:80]!r} is no bucket name: 3 to 63 characters of a-z 0-9 . -, a letter or digit at both ends",
        )


def check_sources(sources: Sequence[BucketSourceSpec]) -> None:
    """Pass when each names a bucket and events that buckets make, and no two are the same. RuleBroken."""
    if len(sources) > MAX_SOURCES:
        raise RuleBroken("sources", f"at most {MAX_SOURCES} for a function, not {len(sources)}")
    for source in sources:
        check_bucket_name("sources.bucket", source.bucket)
        if not 1 <= len(source.events) <= MAX_EVENTS_PER_SOURCE:
            raise RuleBroken("sources.events", f"name 1 to {MAX_EVENTS_PER_SOURCE}, such as {BUCKET_EVENTS[0]}")
        for event in source.events:
            if event not in BUCKET_EVENTS:
                raise RuleBroken("sources.events", f"{event[:80]!r} is not offered; use {' or '.join(BUCKET_EVENTS)}")
        for part in (source.key_prefix, source.key_suffix):
            if len(part.encode()) > MAX_KEY_PART_BYTES or "\x00" in part:
                raise RuleBroken("sources.key_prefix", f"prefix and suffix have at most {MAX_KEY_PART_BYTES:,} bytes")
    if len(set(sources)) != len(sources):
        raise RuleBroken("sources", "two of them are the same; leave one out")


def check_reservation(reserved: int, reserved_by_others: int, account_limit: int) -> None:
    """Pass when at least 100 of the account stay unreserved; 0 (nothing runs) always may. RuleBroken."""
    if reserved and account_limit - reserved_by_others - reserved < MIN_UNRESERVED:
        most = max(0, account_limit - reserved_by_others - MIN_UNRESERVED)
        raise RuleBroken(
            "reserved_concurrency",
            f"{reserved:,} would decrease the account's UnreservedConcurrentExecution below its minimum value of "
            f"[{MIN_UNRESERVED}]; at most {most:,} can be reserved now",
        )


def is_reserved(name: str) -> bool:
    """Whether only the runtime sets this variable."""
    return name in _RESERVED_VARIABLES or name.startswith(_RESERVED_PREFIX)


def _check_grants(buckets: Sequence[str]) -> None:
    if len(buckets) > MAX_BUCKETS:
        raise RuleBroken("buckets", f"at most {MAX_BUCKETS} for a function, not {len(buckets)}")
    for bucket in buckets:
        check_bucket_name("buckets", bucket)
    if len(set(buckets)) != len(buckets):
        raise RuleBroken("buckets", "a bucket is named twice; leave one out")


def _within(field_name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise RuleBroken(field_name, f"must be within {low:,} to {high:,}, not {value:,}")
