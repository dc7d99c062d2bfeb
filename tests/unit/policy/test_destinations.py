"""What destinations and dead-letter queues can be."""

import pytest

from services.policy.destinations import Kind, names_function, parse_dead_letter_queue, parse_destination

QUEUE = "arn:aws:sqs:eu-west-1:123456789012:q"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:t"
BUS = "arn:aws:events:eu-west-1:123456789012:event-bus/b/c"
BUCKET = "arn:aws:s3:::a.bucket"
FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:f:live"


@pytest.mark.parametrize(
    ("arn", "kind", "region", "name"),
    [
        (QUEUE, Kind.QUEUE, "eu-west-1", "q"),
        (TOPIC, Kind.TOPIC, "eu-west-1", "t"),
        (BUS, Kind.EVENT_BUS, "eu-west-1", "b/c"),
        (BUCKET, Kind.BUCKET, "", "a.bucket"),
        (FUNCTION, Kind.FUNCTION, "eu-west-1", FUNCTION),
        ("f:3", Kind.FUNCTION, "", "f:3"),
    ],
)
def test_each_kind_is_told_by_its_arn(arn: str, kind: Kind, region: str, name: str) -> None:
    """Kind, region of the client, and what that client is to be told."""
    found = parse_destination(arn, is_success=False)
    assert (found.kind, found.region, found.name, found.arn) == (kind, region, name, arn)
    assert names_function(arn) == (kind is Kind.FUNCTION)


@pytest.mark.parametrize(
    ("arn", "words"),
    [
        (QUEUE + ".fifo", "first-in-first-out"),
        (TOPIC + ".fifo", "first-in-first-out"),
        ("arn:aws:sqs:eu-west-1:123456789012:", "no queue"),
        ("arn:aws:sqs::123456789012:q", "no queue"),
        ("arn:aws:events:eu-west-1:123456789012:rule/x", "no queue"),
        ("arn:aws:kinesis:eu-west-1:123456789012:stream/x", "no queue"),
        ("arn:nonsense", "no queue"),
        ("not a name", "no function"),
    ],
)
def test_what_cannot_be_a_destination_says_why(arn: str, words: str) -> None:
    """First-in-first-out queues and topics among them, as at AWS."""
    with pytest.raises(ValueError, match=words):
        parse_destination(arn, is_success=False)


def test_buckets_get_failures_only() -> None:
    """As at AWS."""
    with pytest.raises(ValueError, match="failures only"):
        parse_destination(BUCKET, is_success=True)


@pytest.mark.parametrize("arn", [BUS, BUCKET, FUNCTION, QUEUE + ".fifo"])
def test_dead_letter_queues_are_standard_queues_and_topics(arn: str) -> None:
    """Nothing else takes attributes beside an event."""
    assert parse_dead_letter_queue(QUEUE).kind is Kind.QUEUE
    assert parse_dead_letter_queue(TOPIC).kind is Kind.TOPIC
    with pytest.raises(ValueError):
        parse_dead_letter_queue(arn)
