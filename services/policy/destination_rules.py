"""Which ARNs may get the records of async events, and the events that failed for good. Pure."""

import re
from dataclasses import dataclass

from services.policy.arns import REGION, parse_reference
from services.policy.bucket_names import check_bucket_name
from services.policy.rules import RuleBroken

MAX_ARN_CHARACTERS = 2_048
_FIFO = ".fifo"
_QUEUE = re.compile(rf"arn:aws[a-z-]*:sqs:{REGION}:\d{{12}}:[A-Za-z0-9_-]{{1,80}}(?:\.fifo)?")
_TOPIC = re.compile(rf"arn:aws[a-z-]*:sns:{REGION}:\d{{12}}:[A-Za-z0-9_-]{{1,256}}(?:\.fifo)?")
_BUS = re.compile(rf"arn:aws[a-z-]*:events:{REGION}:\d{{12}}:event-bus/[A-Za-z0-9._/-]{{1,256}}")
_BUCKET_ARN = re.compile(r"arn:aws[a-z-]*:s3:::(?P<bucket>.+)")


@dataclass(frozen=True, slots=True)
class Home:
    """Where the fleet stands. Functions of any region are of this account; the region is for examples in texts."""

    account_id: str
    region: str


def check_destination(field_name: str, arn: str, function_name: str, home: Home) -> None:
    """Pass for another function of this account, a queue, topic or event bus; on failure also for an S3 bucket.

    A function may be qualified and need not exist yet. FIFO queues and topics are refused as AWS does. RuleBroken.
    """
    if _QUEUE.fullmatch(arn) or _TOPIC.fullmatch(arn):
        _refuse_fifo(field_name, arn)
    elif bucket := _BUCKET_ARN.fullmatch(arn):
        if field_name != "on_failure_arn":
            raise RuleBroken(field_name, "an S3 bucket can be a destination on failure only")
        check_bucket_name(field_name, bucket["bucket"])
    elif not _BUS.fullmatch(arn):
        _check_function(field_name, arn, function_name, home)


def check_dead_letter(field_name: str, arn: str) -> None:
    """Pass for a standard SQS queue or a standard SNS topic. RuleBroken."""
    if not _QUEUE.fullmatch(arn) and not _TOPIC.fullmatch(arn):
        raise RuleBroken(
            field_name, f"{arn[:200]!r} is no SQS queue nor SNS topic such as arn:aws:sqs:us-east-1:123456789012:NAME"
        )
    _refuse_fifo(field_name, arn)


def _refuse_fifo(field_name: str, arn: str) -> None:
    if arn.endswith(_FIFO):
        raise RuleBroken(field_name, f"{arn[:200]!r} is a FIFO one: a standard queue or topic is needed")


def _check_function(field_name: str, arn: str, function_name: str, home: Home) -> None:
    try:
        named = parse_reference(arn) if arn.startswith("arn:") and ":function:" in arn else None
    except ValueError:
        named = None
    example = f"arn:aws:lambda:{home.region}:{home.account_id}:function:NAME"
    if named is None or named.account_id is None or named.region is None:
        others = "an SQS queue, SNS topic, EventBridge bus" + (
            " or S3 bucket" if field_name == "on_failure_arn" else ""
        )
        raise RuleBroken(field_name, f"{arn[:200]!r} is no function's ARN such as {example}, and no ARN of {others}")
    if named.account_id != home.account_id:
        raise RuleBroken(field_name, f"{arn[:200]!r} is of another account; here it is {example}")
    if named.function_name == function_name:
        raise RuleBroken(field_name, "a function cannot be its own destination")
