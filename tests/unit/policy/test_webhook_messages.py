"""Documents that webhooks get: S3 notifications as different servers send them, SNS messages and their signatures."""

import json
from typing import Any

import pytest

from services.policy.s3_notifications import MAX_RECORDS, read_document, wants
from services.policy.sns_messages import is_aws_certificate, lambda_event, may_visit, read_message

ENDPOINT = "http://127.0.0.1:5000"


def record(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "eventVersion": "2.1",
        "eventSource": "minio:s3",
        "eventTime": "2026-11-25T10:00:00.000Z",
        "eventName": "s3:ObjectCreated:Put",
        "s3": {
            "bucket": {"name": "photos", "arn": "arn:aws:s3:::photos"},
            "object": {"key": "a%2Fb+c.jpg", "size": 5, "eTag": "e1", "sequencer": "16A"},
        },
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = made
        for parent in parents:
            at = at[parent]
        at[last] = value
    return made


def document(*records: Any) -> bytes:
    return json.dumps({"Records": list(records)}).encode()


def test_a_notification_becomes_s3s_own_event() -> None:
    """One event a record; names as S3 has them, the key decoded for filters and as sent for the function."""
    [notice] = read_document(document(record()))
    assert (notice.event_name, notice.bucket, notice.key) == ("s3:ObjectCreated:Put", "photos", "a/b c.jpg")
    [sent] = json.loads(notice.payload)["Records"]
    assert sent == {**record(), "eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}
    [other] = read_document(document(record(eventName="ObjectCreated:Put", eventSource="aws:s3")))
    assert other == notice


def test_the_test_event_and_an_empty_post_are_nothing() -> None:
    """Servers send them when they are set up."""
    test = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "photos"}
    assert read_document(json.dumps(test).encode()) == []
    assert read_document(b"") == []
    assert read_document(document(record(eventName="s3:TestEvent"))) == []


def test_the_token_is_of_one_happening_and_one_source() -> None:
    """The same for a repeat; another one for another source, key, sequencer, version or, without sequencer, time."""
    token = read_document(document(record()))[0].client_token("source-1")
    assert read_document(document(record(eventTime="later")))[0].client_token("source-1") == token
    others = [
        record(s3__object__sequencer="16B"),
        record(s3__object__versionId="v2"),
        record(s3__object__key="other"),
        record(eventName="s3:ObjectRemoved:Delete"),
        record(s3__object__sequencer=""),
        record(s3__object__sequencer="", eventTime="later"),
    ]
    tokens = {read_document(document(other))[0].client_token("source-1") for other in others}
    tokens.add(read_document(document(record()))[0].client_token("source-2"))
    assert len(tokens | {token}) == len(others) + 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "object with Records"),
        (b"{}", "no Records"),
        (b'{"Records": []}', "no Records"),
        (b'{"Records": [5]}', r"Records\[0\] is no object"),
        (document(record(eventName=5)), "eventName must be a text"),
        (document(record(s3="x")), "s3.bucket is missing"),
        (document(record(s3__bucket__name="")), "bucket.name"),
        (document(record(s3__object__key=None)), "object.key"),
        (document(*[{}] * (MAX_RECORDS + 1)), "at most 1,000"),
    ],
)
def test_what_is_no_notification_is_refused_with_a_sentence(body: bytes, said: str) -> None:
    """The sentence names the place."""
    with pytest.raises(ValueError, match=said):
        read_document(body)


def test_event_names_of_a_source_may_end_in_a_star() -> None:
    """As S3's do."""
    assert wants(["s3:ObjectCreated:*"], "s3:ObjectCreated:CompleteMultipartUpload")
    assert wants(["s3:ObjectRemoved:Delete", "s3:ObjectCreated:Put"], "s3:ObjectCreated:Put")
    assert not wants(["s3:ObjectCreated:Put"], "s3:ObjectCreated:Post")


# --- SNS


def sns(**changes: Any) -> dict[str, Any]:
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
        "Subject": "My First Message",
        "Message": "Hello world!\n",
        "Timestamp": "2012-05-02T00:54:06.655Z",
        "SignatureVersion": "1",
        "Signature": "EXAMPLE",
        "SigningCertURL": "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "UnsubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=Unsubscribe&SubscriptionArn=arn:aws:sns:x:1:T:9",
        "MessageAttributes": {"Test": {"Type": "String", "Value": "TestString"}},
        **changes,
    }


def read(**changes: Any) -> Any:
    return read_message(json.dumps(sns(**changes)).encode())


def test_a_notification_of_sns_becomes_lambdas_event() -> None:
    """Every field under Lambda's own name."""
    assert json.loads(lambda_event(read(), "")) == {
        "Records": [
            {
                "EventSource": "aws:sns",
                "EventVersion": "1.0",
                "EventSubscriptionArn": "arn:aws:sns:x:1:T:9",
                "Sns": {
                    "Type": "Notification",
                    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
                    "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
                    "Subject": "My First Message",
                    "Message": "Hello world!\n",
                    "Timestamp": "2012-05-02T00:54:06.655Z",
                    "SignatureVersion": "1",
                    "Signature": "EXAMPLE",
                    "SigningCertUrl": sns()["SigningCertURL"],
                    "UnsubscribeUrl": sns()["UnsubscribeURL"],
                    "MessageAttributes": {"Test": {"Type": "String", "Value": "TestString"}},
                },
            }
        ]
    }
    found = json.loads(lambda_event(read(Subject=None, MessageAttributes=None), "arn:header"))["Records"][0]
    assert (found["EventSubscriptionArn"], found["Sns"]["Subject"]) == ("arn:header", None)
    assert found["Sns"]["MessageAttributes"] == {}


def test_the_signature_covers_what_sns_says_it_covers() -> None:
    """Names and values, a line each, in SNS's order; Subject only where there is one."""
    assert read(Subject=None).string_to_sign == (
        b"Message\nHello world!\n\nMessageId\n22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324\n"
        b"Timestamp\n2012-05-02T00:54:06.655Z\nTopicArn\narn:aws:sns:us-west-2:123456789012:MyTopic\n"
        b"Type\nNotification\n"
    )
    assert b"\nSubject\nMy First Message\n" in read().string_to_sign
    confirmation = read(Type="SubscriptionConfirmation", SubscribeURL="https://x", Token="t", Subject=None)
    assert b"SubscribeURL\nhttps://x\nTimestamp\n" in confirmation.string_to_sign
    assert b"Token\nt\nTopicArn\n" in confirmation.string_to_sign


@pytest.mark.parametrize(
    ("url", "is_aws"),
    [
        ("https://sns.us-east-1.amazonaws.com/SimpleNotificationService-f3ec.pem", True),
        ("https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-f3ec.pem", True),
        ("http://sns.us-east-1.amazonaws.com/SimpleNotificationService-f3ec.pem", False),
        ("https://sns.us-east-1.amazonaws.com.evil.example/SimpleNotificationService-f3ec.pem", False),
        ("https://evil.example/sns.us-east-1.amazonaws.com/SimpleNotificationService-f3ec.pem", False),
        ("https://sns.us-east-1.amazonaws.com@evil.example/SimpleNotificationService-f3ec.pem", False),
        ("https://sns.us-east-1.amazonaws.com:8443/SimpleNotificationService-f3ec.pem", False),
        ("https://bucket.s3.amazonaws.com/SimpleNotificationService-f3ec.pem", False),
        ("https://sns.us-east-1.amazonaws.com/other.pem", False),
        ("https://sns.us-east-1.amazonaws.com/SimpleNotificationService-f3ec.pem?x=1", False),
        ("https://[::1/SimpleNotificationService-f3ec.pem", False),
        ("", False),
    ],
)
def test_certificates_are_taken_from_sns_alone(url: str, is_aws: bool) -> None:
    """By https from a host of SNS, at the path that it uses; nothing that only looks like it."""
    assert is_aws_certificate(url) is is_aws


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=x", True),
        (f"{ENDPOINT}/?Action=ConfirmSubscription", True),
        ("http://127.0.0.1:5001/", False),
        ("http://127.0.0.1:5000@evil.example/", False),
        ("http://169.254.169.254/latest/meta-data/", False),
        ("file:///etc/passwd", False),
        ("https://[", False),
        ("", False),
    ],
)
def test_only_sns_and_the_endpoint_that_stands_for_it_are_visited(url: str, may: bool) -> None:
    """A message cannot make a door call anybody else; without an endpoint, AWS alone."""
    assert may_visit(url, ENDPOINT) is may
    assert may_visit(url, "") is (may and url.startswith("https"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"plain text", "raw message delivery"),
        (b"[]", "Type must be"),
        (b'{"Type": "Other"}', "Type must be"),
        (b'{"Type": "Notification", "MessageId": "1", "TopicArn": "t"}', "Message is missing"),
        (b'{"Type": "Notification", "MessageId": 1}', "MessageId must be a text"),
    ],
)
def test_what_is_no_message_of_sns_is_refused_with_a_sentence(body: bytes, said: str) -> None:
    """The sentence says what to do about raw delivery."""
    with pytest.raises(ValueError, match=said):
        read_message(body)
