"""What the code and configuration of a function may look like. Pure; RuleBroken says what to do."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.policy.arns import LATEST
from services.policy.bucket_names import check_bucket_name
from services.policy.destination_rules import Home, check_dead_letter, check_destination
from services.policy.kept_fields import check_kept
from services.policy.rules import RuleBroken, at_most, within

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
MAX_BUCKETS = 16
MAX_LAYERS = 5
# Room for a layer version's ARN.
MAX_LAYER_NAME_CHARACTERS = 256
MIN_STORAGE_MB = 512
MAX_STORAGE_MB = 10_240
MAX_ALLOWANCES = 50
MAX_RESOURCE_CHARACTERS = 512
# "python3" is the host's own, whichever that is.
PYTHON_RUNTIMES = ("python3.11", "python3.12", "python3.13", "python3.14")
NODE_RUNTIMES = ("nodejs20.x", "nodejs22.x", "nodejs24.x")
PROVIDED_RUNTIMES = ("provided", "provided.al2", "provided.al2023")
RUNTIMES = ("python3", *PYTHON_RUNTIMES, *NODE_RUNTIMES, *PROVIDED_RUNTIMES)

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HANDLER = re.compile(r"[^\s/.]+([./][^\s/.]+)*\.[^\s/.]+")
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f]+")
_ROLE = re.compile(r"arn:aws[a-zA-Z-]*:iam::\d{12}:role/[a-zA-Z0-9+=,.@_/-]{1,512}")
_ACTION = re.compile(r"\*|[a-z0-9-]{1,64}:(?:\*|[A-Za-z0-9]{1,64}\*?)")
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]+")
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
    role: str = ""
    dead_letter_arn: str = ""
    ephemeral_storage_mb: int = 0
    kept_fields: bytes = b""
    allows: Sequence[tuple[str, str]] = ()


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
    within("timeout_ms", spec.timeout_ms, 1, MAX_TIMEOUT_MS)
    within("memory_mb", spec.memory_mb, DEFAULT_MEMORY_MB, MAX_MEMORY_MB)
    at_most("description", spec.description, MAX_DESCRIPTION_CHARACTERS)
    check_environment(spec.environment or {})
    _check_grants(spec.buckets)
    check_layers(spec.layers)
    if spec.snap_start and not spec.runtime.startswith("python"):
        raise RuleBroken("snap_start", f"Python runtimes have it, {spec.runtime} has not: leave it out")
    if spec.role and not _ROLE.fullmatch(spec.role):
        raise RuleBroken("role", f"{spec.role[:200]!r} is no role's ARN such as arn:aws:iam::123456789012:role/NAME")
    if spec.dead_letter_arn:
        check_dead_letter("dead_letter_arn", spec.dead_letter_arn)
    if spec.ephemeral_storage_mb:
        within("ephemeral_storage_mb", spec.ephemeral_storage_mb, MIN_STORAGE_MB, MAX_STORAGE_MB)
    check_kept(spec.kept_fields)
    check_allowances(spec.allows)
    check_async(spec, home)


def check_async(spec: FunctionSpec, home: Home) -> None:
    """Pass when the async part of a spec keeps its rules. RuleBroken."""
    if spec.maximum_retry_attempts is not None:
        within("maximum_retry_attempts", spec.maximum_retry_attempts, 0, MAX_RETRY_ATTEMPTS)
    if spec.maximum_event_age_seconds is not None:
        within(
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


def check_allowances(allows: Sequence[tuple[str, str]]) -> None:
    """Pass for up to 50 pairs of an action and a resource. RuleBroken."""
    if len(allows) > MAX_ALLOWANCES:
        raise RuleBroken("allows", f"at most {MAX_ALLOWANCES} for a function, not {len(allows)}")
    for action, resource in allows:
        if not _ACTION.fullmatch(action):
            text = f"{action[:80]!r} is no action such as lambda:InvokeFunction, lambda:Invoke* or *"
            raise RuleBroken("allows.action", text)
        if not 1 <= len(resource) <= MAX_RESOURCE_CHARACTERS or not _PRINTABLE.fullmatch(resource):
            text = f"{resource[:80]!r} must be an ARN, a pattern with * or a function's name"
            raise RuleBroken("allows.resource", text)


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
