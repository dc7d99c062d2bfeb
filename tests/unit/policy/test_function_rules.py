"""The rules of functions: every bound from both sides."""

from dataclasses import replace
from typing import Any

import pytest

from services.policy.destination_rules import Home
from services.policy.function_rules import FunctionSpec, check_function, complete
from services.policy.rules import RuleBroken

HOME = Home("123456789012", "us-east-1")
GOOD = complete(FunctionSpec("clean", "clean.lambda_handler", "python3"))
ARN = "arn:aws:lambda:us-east-1:123456789012:function:"


def test_defaults_are_those_of_aws() -> None:
    """3 s, 128 MiB, $LATEST; nothing else is filled in."""
    assert (GOOD.timeout_ms, GOOD.memory_mb, GOOD.version) == (3_000, 128, "$LATEST")
    assert GOOD.maximum_retry_attempts is None and GOOD.maximum_event_age_seconds is None


@pytest.mark.parametrize(
    "changes",
    [
        {"function_name": "a" * 64},
        {"function_name": "A-z_9"},
        {"handler": "pkg/my-module.handler"},
        {"handler": "pkg.module.handler"},
        {"handler": "m." + "h" * 126},
        {"runtime": "python3.14"},
        {"runtime": "nodejs22.x", "handler": "src/index.handler"},
        {"runtime": "provided.al2023", "handler": "any text: it is the bootstrap's to read"},
        {"layers": ["a", "b.zip", "c", "d", "e"]},
        {"snap_start": True},
        {"snap_start": True, "runtime": "python3.12"},
        {"timeout_ms": 1},
        {"timeout_ms": 900_000},
        {"memory_mb": 10_240},
        {"description": "d" * 256},
        {"environment": {"AB": "x" * 4_094}},
        {"environment": {"AWSOME": "1", "LAMBDA_OTHER": "2", "TZ": ":UTC"}},
        {"buckets": ("abc", "a.b-c9", "x" * 63)},
        {"maximum_retry_attempts": 0},
        {"maximum_retry_attempts": 2},
        {"maximum_event_age_seconds": 60},
        {"maximum_event_age_seconds": 21_600},
        {"on_success_arn": ARN + "index"},
        {"on_failure_arn": ARN + "index:$LATEST"},
        {"on_failure_arn": ARN + "index:7"},
        {"on_failure_arn": ARN + "index:live"},
        # The region of an ARN is the request's, which the fleet echoes: it says nothing about where a function is.
        {"on_failure_arn": ARN.replace("us-east-1", "eu-west-1") + "index"},
        {"role": "arn:aws:iam::123456789012:role/service-role/lambda-x"},
        {"dead_letter_arn": "arn:aws:sqs:eu-west-1:000000000000:q"},
        {"dead_letter_arn": "arn:aws:sns:eu-west-1:000000000000:t"},
        {"ephemeral_storage_mb": 512},
        {"ephemeral_storage_mb": 10_240},
        {"kept_fields": b'{"TracingConfig":{"Mode":"Active"}}'},
        {"allows": [("lambda:InvokeFunction", "index"), ("lambda:Invoke*", ARN + "*"), ("*", "*")]},
    ],
)
def test_what_keeps_the_rules_passes(changes: dict[str, Any]) -> None:
    check_function(replace(GOOD, **changes), HOME)


@pytest.mark.parametrize(
    ("changes", "field_name"),
    [
        ({"function_name": ""}, "function_name"),
        ({"function_name": "a" * 65}, "function_name"),
        ({"function_name": "a/b"}, "function_name"),
        ({"function_name": "a\n"}, "function_name"),
        ({"version": "1"}, "version"),
        ({"handler": ""}, "handler"),
        ({"handler": "handler"}, "handler"),
        ({"handler": "a..b"}, "handler"),
        ({"handler": "../evil.handler"}, "handler"),
        ({"handler": "m." + "h" * 127}, "handler"),
        ({"runtime": "provided.al2023", "handler": ""}, "handler"),
        ({"runtime": "provided.al2023", "handler": "two\nlines"}, "handler"),
        ({"runtime": "provided.al2023", "handler": "x" * 129}, "handler"),
        ({"runtime": "nodejs20.x", "handler": "index"}, "handler"),
        ({"layers": ["a"] * 6}, "layers"),
        ({"layers": [""]}, "layers.name"),
        ({"snap_start": True, "runtime": "provided.al2023"}, "snap_start"),
        ({"layers": ["x" * 257]}, "layers.name"),
        ({"runtime": ""}, "runtime"),
        ({"runtime": "python2.7"}, "runtime"),
        ({"timeout_ms": 900_001}, "timeout_ms"),
        ({"memory_mb": 127}, "memory_mb"),
        ({"memory_mb": 10_241}, "memory_mb"),
        ({"description": "d" * 257}, "description"),
        ({"environment": {"AB": "x" * 4_095}}, "environment"),
        ({"environment": {"AB": "é" * 2_048}}, "environment"),
        ({"environment": {"1A": ""}}, "environment"),
        ({"environment": {"A": ""}}, "environment"),
        ({"environment": {"A-B": ""}}, "environment"),
        ({"environment": {"AB": "\x00"}}, "environment"),
        ({"environment": {"AWS_REGION": "x"}}, "environment"),
        ({"environment": {"AWS_LAMBDA_ANYTHING": "x"}}, "environment"),
        ({"environment": {"AWS_SESSION_TOKEN": "x"}}, "environment"),
        ({"environment": {"LAMBDA_TASK_ROOT": "x"}}, "environment"),
        ({"environment": {"_HANDLER": "x"}}, "environment"),
        ({"buckets": ("ab",)}, "buckets"),
        ({"buckets": ("x" * 64,)}, "buckets"),
        ({"buckets": ("Upper",)}, "buckets"),
        ({"buckets": ("a..b",)}, "buckets"),
        ({"buckets": ("-ab",)}, "buckets"),
        ({"buckets": ("../x",)}, "buckets"),
        ({"buckets": ("abc", "abc")}, "buckets"),
        ({"buckets": tuple(f"b{i:03d}" for i in range(17))}, "buckets"),
        ({"maximum_retry_attempts": 3}, "maximum_retry_attempts"),
        ({"maximum_event_age_seconds": 59}, "maximum_event_age_seconds"),
        ({"maximum_event_age_seconds": 21_601}, "maximum_event_age_seconds"),
        ({"on_success_arn": "index"}, "on_success_arn"),
        ({"on_success_arn": ARN + "clean"}, "on_success_arn"),
        ({"on_failure_arn": ARN + "clean:$LATEST"}, "on_failure_arn"),
        ({"on_failure_arn": ARN.replace("123456789012", "000000000000") + "index"}, "on_failure_arn"),
        ({"on_failure_arn": ARN + "clean:live"}, "on_failure_arn"),
        ({"role": "admin"}, "role"),
        ({"dead_letter_arn": ARN + "index"}, "dead_letter_arn"),
        ({"dead_letter_arn": "arn:aws:sqs:us-east-1:123456789012:q.fifo"}, "dead_letter_arn"),
        ({"ephemeral_storage_mb": 511}, "ephemeral_storage_mb"),
        ({"ephemeral_storage_mb": 10_241}, "ephemeral_storage_mb"),
        ({"kept_fields": b"[]"}, "kept_fields"),
        ({"kept_fields": b"{"}, "kept_fields"),
        ({"kept_fields": b"\xff"}, "kept_fields"),
        ({"kept_fields": b'{"A":NaN}'}, "kept_fields"),
        ({"kept_fields": b"[" * 16_000}, "kept_fields"),
        ({"kept_fields": b'{"A":"' + b"x" * 16_384 + b'"}'}, "kept_fields"),
        ({"allows": [("lambda", "*")]}, "allows.action"),
        ({"allows": [("lambda:In*ke", "*")]}, "allows.action"),
        ({"allows": [("lambda:*", "")]}, "allows.resource"),
        ({"allows": [("lambda:*", "x" * 513)]}, "allows.resource"),
        ({"allows": [("lambda:*", "x")] * 51}, "allows"),
    ],
)
def test_a_broken_rule_names_its_field(changes: dict[str, Any], field_name: str) -> None:
    with pytest.raises(RuleBroken) as refused:
        check_function(replace(GOOD, **changes), HOME)
    assert refused.value.field_name == field_name and str(refused.value).startswith(f"{field_name}: ")
    assert len(str(refused.value)) < 400
