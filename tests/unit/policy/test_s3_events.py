"""The S3 notification and the rules of which objects a source wants."""

import base64
import json
import string
from typing import Any
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy import s3_events
from services.policy.s3_events import KeyFilter, ObjectVersion

ARRIVED_NS = 1_573_755_365_568_999_999
VERSION = ObjectVersion("shows/first light.wav", 4_711, 1_573_755_365_000_000_123, 8_044)


def event(
    version: ObjectVersion = VERSION, arrived_ns: int = ARRIVED_NS, source_id: str = "source-1"
) -> dict[str, Any]:
    payload = s3_events.created_event(
        source_id=source_id,
        bucket="podcast-in",
        region="eu-central-1",
        account_id="123456789012",
        version=version,
        arrived_ns=arrived_ns,
        md5_hex="d41d8cd98f00b204e9800998ecf8427e",
    )
    found = json.loads(payload)
    assert isinstance(found, dict)
    return found


def test_the_event_has_exactly_the_fields_of_s3() -> None:
    """Every field of S3's version 2.1 message is there with its form, and no other."""
    [record] = event()["Records"]
    elements = record.pop("responseElements")
    assert record == {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": "2019-11-14T18:16:05.568Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "AWS:123456789012"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "source-1",
            "bucket": {
                "name": "podcast-in",
                "ownerIdentity": {"principalId": "123456789012"},
                "arn": "arn:aws:s3:::podcast-in",
            },
            "object": {
                "key": "shows/first+light.wav",
                "size": 8_044,
                "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                "sequencer": f"{ARRIVED_NS:018X}",
            },
        },
    }
    assert elements.keys() == {"x-amz-request-id", "x-amz-id-2"}
    assert len(elements["x-amz-request-id"]) == 16
    assert set(elements["x-amz-request-id"]) <= set(string.digits + "ABCDEF")
    assert len(base64.b64decode(elements["x-amz-id-2"], validate=True)) == 48


@given(st.text(min_size=1).filter(lambda text: text.isprintable() or "\n" in text))
def test_any_key_comes_back_from_its_event(key: str) -> None:
    """unquote_plus, as every S3 handler does it, gives the key again; slashes are seen in the event as they are."""
    version = ObjectVersion(key, 1, 2, 3)
    [record] = event(version)["Records"]
    encoded = record["s3"]["object"]["key"]
    assert unquote_plus(encoded) == key
    assert encoded.count("/") == key.count("/")
    assert encoded.isascii()


def test_a_repeat_is_the_same_to_the_byte_and_anything_else_is_another_token() -> None:
    """The same object gives the same token; another source, key, inode, time or size gives another."""
    others = [
        ("source-2", VERSION),
        ("source-1", ObjectVersion("shows/first light.wa", 4_711, VERSION.mtime_ns, 8_044)),
        ("source-1", ObjectVersion(VERSION.key, 4_712, VERSION.mtime_ns, 8_044)),
        ("source-1", ObjectVersion(VERSION.key, 4_711, VERSION.mtime_ns + 1, 8_044)),
        ("source-1", ObjectVersion(VERSION.key, 4_711, VERSION.mtime_ns, 8_045)),
    ]
    tokens = [s3_events.client_token(source_id, version) for source_id, version in [("source-1", VERSION), *others]]
    assert event() == event()
    assert len(set(tokens)) == len(tokens)
    assert all(len(token) == 64 and token.isprintable() for token in tokens)


def test_identity_and_key_cannot_be_taken_for_one_another() -> None:
    """Texts that would be equal when put together stay apart."""
    one = s3_events.client_token("source", ObjectVersion("a1", 1, 1, 1))
    other = s3_events.client_token("sourcea", ObjectVersion("1", 1, 1, 1))
    assert one != other


def test_a_later_object_has_the_greater_sequencer() -> None:
    """Sequencers of one key compare as text, also across powers of sixteen and times before the epoch."""
    times = [-5, 0, 9, 15, 16, 255, 256, ARRIVED_NS, ARRIVED_NS * 2]
    texts = [event(arrived_ns=t)["Records"][0]["s3"]["object"]["sequencer"] for t in times]
    assert texts == sorted(texts)
    assert {len(t) for t in texts} == {18}


@pytest.mark.parametrize(
    ("prefix", "suffix", "key", "passes"),
    [
        ("", "", "a.wav", True),
        ("shows/", "", "shows/a.wav", True),
        ("shows/", "", "other/a.wav", False),
        ("", ".wav", "a.wav", True),
        ("", ".wav", "a.WAV", False),
        ("shows/", ".wav", "shows/a.mp3", False),
        ("aba", "bab", "abab", True),
    ],
)
def test_filter_rules_are_prefix_and_suffix(prefix: str, suffix: str, key: str, passes: bool) -> None:
    """Both have to fit; case counts; they may overlap."""
    assert KeyFilter(prefix, suffix).passes(key) is passes


@pytest.mark.parametrize(
    ("events", "wants"),
    [
        (["s3:ObjectCreated:*"], True),
        (["s3:ObjectRemoved:*", "s3:ObjectCreated:Put"], True),
        (["s3:ObjectCreated:Copy"], False),
        (["s3:ObjectRemoved:*"], False),
        ([], False),
    ],
)
def test_only_sources_of_puts_want_created_objects(events: list[str], wants: bool) -> None:
    """Event names that a put would not fire in S3 do not fire here."""
    assert s3_events.wants_created(events) is wants


@pytest.mark.parametrize(
    ("path", "is_object"),
    [
        ("a.wav", True),
        ("a/b c/ü.wav", True),
        ("a..wav", True),
        ("a./b", True),
        (".hidden", False),
        ("a/.hidden", False),
        ("a/.hidden/b", False),
        ("x" * 1_024, True),
        ("x" * 1_025, False),
        ("ü" * 513, False),
        ("bad-\udcff", False),
    ],
)
def test_hidden_overlong_and_undecodable_names_are_no_objects(path: str, is_object: bool) -> None:
    """A part that begins with a dot hides; a key has at most 1,024 bytes of UTF-8."""
    assert s3_events.is_object(path) is is_object
