"""SQS mappings: the event's exact shape, which records an answer says failed, how concurrency grows."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy.sqs_events import Growth, encode, event_bytes, event_of, failed_ids, record_of

ARN = "arn:aws:sqs:eu-central-1:123456789012:orders"
MESSAGE: dict[str, Any] = {
    "MessageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
    "ReceiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
    "Body": 'Test "message"\u00e9',
    "MD5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
    "Attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183"},
    "MessageAttributes": {
        "city": {"StringValue": "Oslo", "DataType": "String"},
        "raw": {"BinaryValue": b"\x00\x01", "DataType": "Binary"},
    },
    "MD5OfMessageAttributes": "00484c68759e8b3ef7a1e5f2e0d1e1a4",
}


def test_a_record_has_the_fields_of_lambdas_event() -> None:
    """Names and nesting as the developer guide has them; binary attributes are base64."""
    [record] = json.loads(event_of([encode(record_of(MESSAGE, ARN, "eu-central-1"))]))["Records"]
    assert record == {
        "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
        "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
        "body": 'Test "message"\u00e9',
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183"},
        "messageAttributes": {
            "city": {"stringValue": "Oslo", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
            "raw": {"binaryValue": "AAE=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
        },
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "md5OfMessageAttributes": "00484c68759e8b3ef7a1e5f2e0d1e1a4",
        "eventSource": "aws:sqs",
        "eventSourceARN": ARN,
        "awsRegion": "eu-central-1",
    }


@given(st.lists(st.text(max_size=20), max_size=5))
def test_the_size_of_an_event_is_never_told_too_small(bodies: list[str]) -> None:
    """Whatever the bodies hold, half surrogates too: the bound of 6 MiB counts on it, and the event is JSON."""
    records = [encode(record_of({**MESSAGE, "Body": body}, ARN, "eu-central-1")) for body in bodies]
    event = event_of(records)
    assert len(event) <= event_bytes(sum(map(len, records)), len(records))
    assert [record["body"] for record in json.loads(event)["Records"]] == bodies


@pytest.mark.parametrize(
    ("response", "failed"),
    [
        (b"", ()),
        (b"null", ()),
        (b"{}", ()),
        (b'{"batchItemFailures": null}', ()),
        (b'{"batchItemFailures": []}', ()),
        (b'{"batchItemFailures": [{"itemIdentifier": "b"}]}', "b"),
        (b'{"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "b"}], "more": 1}', "b"),
        (b'{"batchItemFailures": [{"itemIdentifier": "x"}]}', "abc"),
        (b'{"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": ""}]}', "abc"),
        (b'{"batchItemFailures": [{"itemIdentifier": null}]}', "abc"),
        (b'{"batchItemFailures": [{"identifier": "a"}]}', "abc"),
        (b'{"batchItemFailures": [{"itemIdentifier": 5}]}', "abc"),
        (b'{"batchItemFailures": ["a"]}', "abc"),
        (b'{"batchItemFailures": {"itemIdentifier": "a"}}', "abc"),
        (b'"a"', "abc"),
        (b"[]", "abc"),
        (b"{", "abc"),
        (b"[" * 100_000, "abc"),
    ],
)
def test_the_answer_says_which_records_failed(response: bytes, failed: str) -> None:
    """Null and nothing: none; what cannot be read, or names somebody else's record: all."""
    assert sorted(failed_ids(response, ["a", "b", "c"])) == sorted(failed)


def test_concurrency_begins_with_five_and_grows_by_300_a_minute_while_busy() -> None:
    """Not while idle, never over its bound; a throttle halves it and an empty queue begins anew."""
    growth = Growth(1_000, 0.0)
    assert growth.batches == 5
    growth.pass_time(60_000.0, is_busy=False)
    assert growth.batches == 5
    growth.pass_time(90_000.0, is_busy=True)
    assert growth.batches == 155
    growth.pass_time(900_000.0, is_busy=True)
    assert growth.batches == 1_000
    growth.throttled()
    assert growth.batches == 500
    growth.emptied()
    assert growth.batches == 5
    for _ in range(9):
        growth.throttled()
    assert growth.batches == 1


def test_maximum_concurrency_bounds_it_from_the_beginning() -> None:
    """2 is the least that AWS takes."""
    growth = Growth(2, 0.0)
    growth.pass_time(60_000.0, is_busy=True)
    assert growth.batches == 2
