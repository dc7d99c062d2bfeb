"""Functions of the contract as the rules of services.policy read them."""

from evenflow.control.v1 import resources_pb2

from services.control.editor import refusal
from services.policy import function_rules
from services.policy.destination_rules import Home
from services.policy.function_rules import FunctionSpec
from services.policy.rules import RuleBroken


def check(function: resources_pb2.Function, home: Home) -> None:
    """Pass when $LATEST and the async configuration keep every rule. EvenflowError: they do not."""
    try:
        function_rules.check_function(spec_of(function), home)
    except RuleBroken as e:
        raise refusal(e) from None


def check_async(function_name: str, config: resources_pb2.AsyncConfig, home: Home) -> None:
    """Pass when an async configuration keeps every rule. EvenflowError INVALID_PARAMETER."""
    function = resources_pb2.Function(function_name=function_name, async_config=config)
    try:
        function_rules.check_async(spec_of(function), home)
    except RuleBroken as e:
        raise refusal(e) from None


def complete(version: resources_pb2.FunctionVersion) -> None:
    """Put AWS's defaults where nothing was given."""
    spec = function_rules.complete(spec_of(resources_pb2.Function(latest=version)))
    version.version, version.timeout_ms, version.memory_mb = spec.version, spec.timeout_ms, spec.memory_mb


def spec_of(function: resources_pb2.Function) -> FunctionSpec:
    """A function as the rules read it."""
    version, config = function.latest, function.async_config
    return FunctionSpec(
        function_name=function.function_name,
        version=version.version,
        handler=version.handler,
        runtime=version.runtime,
        timeout_ms=version.timeout_ms,
        memory_mb=version.memory_mb,
        environment=dict(version.environment),
        buckets=[grant.bucket for grant in version.buckets],
        layers=[layer.name for layer in version.layers],
        snap_start=version.snap_start,
        description=version.description,
        maximum_retry_attempts=(config.maximum_retry_attempts if config.HasField("maximum_retry_attempts") else None),
        maximum_event_age_seconds=(
            config.maximum_event_age_seconds if config.HasField("maximum_event_age_seconds") else None
        ),
        on_success_arn=config.on_success_arn,
        on_failure_arn=config.on_failure_arn,
        role=version.role,
        dead_letter_arn=version.dead_letter_arn,
        ephemeral_storage_mb=version.ephemeral_storage_mb,
        kept_fields=version.kept_fields,
        allows=[(one.action, one.resource) for one in version.allows],
    )


def packages_of(version: resources_pb2.FunctionVersion) -> list[bytes]:
    """SHA-256 of every package that a version needs: its code and its layers."""
    return [version.code_sha256, *(layer.code_sha256 for layer in version.layers)]
