"""The doors for what S3-compatible servers and SNS post: tokens, what becomes an event, repeats, and who is visited."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from evenflow.control.v1 import resources_pb2

from services.shared.webhook_tokens import webhook_token
from tests.integration.frontend.conftest import TOKEN, Rig, make_function, resource
from tests.kit.certificates import Certificate, make_certificate
from tests.kit.http_pages import HttpPages
from tests.kit.http_posts import post

CERTIFICATE_PATH = "/SimpleNotificationService-0a1b.pem"
TOPIC = "arn:aws:sns:us-east-1:123456789012:news"


@pytest.fixture
async def pages() -> AsyncIterator[HttpPages]:
    """A server that stands for SNS: certificates, and addresses that confirm."""
    served = HttpPages()
    await served.start()
    yield served
    await served.stop()


@pytest.fixture
def overrides(pages: HttpPages) -> dict[str, Any]:
    return {"aws_endpoint_url": pages.url}


def s3_path(tenant_id: str = "default", token: str | None = None) -> str:
    return f"/_evenflow/s3/{tenant_id}?token={token or webhook_token(TOKEN, 's3', tenant_id)}"


def sns_path(function_name: str = "echo", query: str | None = None) -> str:
    return f"/_evenflow/sns/{function_name}?{query or 'token=' + webhook_token(TOKEN, 'sns', 'default')}"


def document(*keys: str, event_name: str = "s3:ObjectCreated:Put", bucket: str = "photos") -> dict[str, Any]:
    return {
        "EventName": event_name,
        "Records": [
            {
                "eventVersion": "2.0",
                "eventSource": "minio:s3",
                "eventName": event_name,
                "s3": {"bucket": {"name": bucket}, "object": {"key": key, "eTag": key, "sequencer": "1"}},
            }
            for key in keys
        ],
    }


def map_bucket(rig: Rig, source_id: str, function_name: str = "echo", **more: Any) -> None:
    bucket = resources_pb2.BucketSource(
        **{"bucket": "photos", "events": ["s3:ObjectCreated:*"], "is_remote": True, **more}
    )
    source = resources_pb2.EventSource(
        source_id=source_id, tenant_id="default", function_name=function_name, bucket=bucket
    )
    rig.configuration.view.revision += 1
    rig.configuration.put(resources_pb2.Resource(key=f"source/{source_id}", source=source))


async def test_a_notification_is_one_durable_event_for_each_function(rig: Rig) -> None:
    """Two sources with the bucket; the answer comes when both are stored, and a repeat stores nothing."""
    rig.configuration.put(resource(function=make_function("thumbs")))
    map_bucket(rig, "source-1")
    map_bucket(rig, "source-2", "thumbs")
    map_bucket(rig, "source-3", "thumbs", events=["s3:ObjectRemoved:*"])
    map_bucket(rig, "source-4", "thumbs", is_remote=False)
    map_bucket(rig, "source-5", "thumbs", key_suffix=".png")
    for _ in range(2):
        answer = await post(rig, s3_path(), document("a+b.jpg"))
        assert (answer.status, answer.json()) == (200, {"accepted": 2, "refused": 0, "unwanted": 0})
    assert sorted(event.function_name for event in rig.queue.events.values()) == ["echo", "thumbs"]
    [stored] = [event for event in rig.queue.events.values() if event.function_name == "echo"]
    [record] = json.loads(stored.payload)["Records"]
    assert (record["eventSource"], record["eventName"]) == ("aws:s3", "ObjectCreated:Put")
    assert (record["s3"]["object"]["key"], stored.source, stored.tenant_id) == ("a+b.jpg", "s3", "default")


async def test_records_that_nobody_wants_are_accepted_and_counted(rig: Rig) -> None:
    """The server has done its part: it must not repeat them for ever. Test events and empty posts, too."""
    map_bucket(rig, "source-1")
    answer = await post(rig, s3_path(), document("a", bucket="others"))
    assert (answer.status, answer.json()["unwanted"]) == (200, 1)
    for body in ({"Service": "S3", "Event": "s3:TestEvent", "Bucket": "photos"}, b""):
        assert (await post(rig, s3_path(), body)).status == 200
    assert not rig.queue.events


async def test_what_may_be_accepted_later_is_to_be_posted_again(rig: Rig) -> None:
    """503 while the shard is away, and nothing is lost: the repeat is one event."""
    map_bucket(rig, "source-1")
    await rig.queue.stop()
    answer = await post(rig, s3_path(), document("a"))
    assert (answer.status, answer.json()["Type"]) == (503, "Service")
    await rig.queue.start()
    await rig.until_healthy()
    assert (await post(rig, s3_path(), document("a"))).json()["accepted"] == 1
    assert len(rig.queue.events) == 1


async def test_the_token_is_of_its_tenant_and_kind(rig: Rig) -> None:
    """In the address or as bearer; another tenant's, another kind's, none: 403."""
    map_bucket(rig, "source-1")
    good = webhook_token(TOKEN, "s3", "default")
    for header in (f"Bearer {good}", good):
        answer = await post(rig, "/_evenflow/s3/default", document("a"), {"Authorization": header})
        assert answer.status == 200
    for path in (
        "/_evenflow/s3/default",
        s3_path(token=webhook_token(TOKEN, "s3", "other")),
        s3_path(token=webhook_token(TOKEN, "sns", "default")),
        s3_path(token="%C3%A9" * 10),
        s3_path("other", good),
    ):
        answer = await post(rig, path, document("a"))
        assert (answer.status, "evenflow webhooks" in answer.body.decode()) == (403, True), path


class TestStrict:
    """With auth.mode=strict."""

    @pytest.fixture
    def overrides(self) -> dict[str, Any]:
        return {"auth_mode": "strict"}

    async def test_webhooks_are_let_in_by_their_own_tokens(self, rig: Rig) -> None:
        """Who posts has no key to sign with."""
        map_bucket(rig, "source-1")
        assert (await post(rig, s3_path(), document("a"))).json()["accepted"] == 1
        assert (await post(rig, "/_evenflow/s3/default", document("b"))).status == 403
        assert len(rig.queue.events) == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (s3_path(token="wrong"), b"x" * 100_000, 403),
        (s3_path(), b"{", 400),
        (s3_path(), {"Records": []}, 400),
        (sns_path(), b"plain", 400),
        (sns_path("no%20name"), {"Type": "Notification"}, 400),
        (s3_path(), b'"' + b"x" * 1_048_576 + b'"', 413),
        ("/_evenflow/other/x", b"{}", 404),
    ],
)
async def test_bad_posts_are_refused(rig: Rig, path: str, body: Any, status: int) -> None:
    """With AWS's error shape and a sentence."""
    answer = await post(rig, path, body)
    assert answer.status == status, answer.body


# --- SNS


def message(certificate: Certificate | None = None, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Message": "hello",
        "Timestamp": "2026-11-25T00:54:06.655Z",
        **changes,
    }
    if certificate is not None:
        names = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
        text = "".join(f"{name}\n{made[name]}\n" for name in names if name in made)
        made["Signature"] = base64.b64encode(certificate.sign(text.encode(), "sha1")).decode()
        made["SignatureVersion"] = "1"
        made["SigningCertURL"] = f"https://sns.us-east-1.amazonaws.com{CERTIFICATE_PATH}"
    return made


async def test_a_notification_of_sns_is_one_event_however_often_it_comes(rig: Rig) -> None:
    """By the address's own token; the header names the subscription."""
    for _ in range(2):
        answer = await post(rig, sns_path(), message(), {"x-amz-sns-subscription-arn": f"{TOPIC}:9"})
        assert (answer.status, answer.json()) == (200, {"accepted": 1, "refused": 0})
    [stored] = rig.queue.events.values()
    [record] = json.loads(stored.payload)["Records"]
    assert (record["EventSource"], record["EventSubscriptionArn"]) == ("aws:sns", f"{TOPIC}:9")
    assert (record["Sns"]["Message"], stored.source) == ("hello", "sns")
    await post(rig, sns_path(), message(MessageId="another"))
    assert len(rig.queue.events) == 2


async def test_a_signed_message_needs_no_token_where_the_function_allows_its_topic(rig: Rig, pages: HttpPages) -> None:
    """The certificate is fetched once; without the permission nothing is fetched, and a changed text is refused."""
    certificate = make_certificate()
    pages.put(CERTIFICATE_PATH, certificate.pem)
    signed = message(certificate)
    assert (await post(rig, sns_path(query="x=1"), signed)).status == 403
    assert not pages.visited
    statement = resources_pb2.PermissionStatement(
        statement_id="sns", action="lambda:InvokeFunction", principal="sns.amazonaws.com", source_arn=TOPIC
    )
    rig.configuration.put(resource(function=make_function("echo", permissions=[statement])))
    assert (await post(rig, sns_path(query="x=1"), signed)).status == 200
    assert (await post(rig, sns_path(query="x=1"), {**signed, "TopicArn": f"{TOPIC}2"})).status == 403
    changed = await post(rig, sns_path(query="x=1"), {**signed, "Message": "changed"})
    assert (changed.status, "signature" in changed.body.decode()) == (403, True)
    assert pages.visited == [CERTIFICATE_PATH]
    assert len(rig.queue.events) == 1


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ({"source_account": TOPIC.split(":")[4]}, 200),
        ({"source_account": "999999999999"}, 403),
        ({"principal_org_id": "o-1234567890"}, 403),
        ({"event_source_token": "token"}, 403),
    ],
)
async def test_every_condition_of_the_permission_is_met_or_the_topic_is_refused(
    rig: Rig, pages: HttpPages, conditions: dict[str, str], status: int
) -> None:
    """A wide ARN with an account is about topics of that account; what no topic can meet opens nothing."""
    certificate = make_certificate()
    pages.put(CERTIFICATE_PATH, certificate.pem)
    statement = resources_pb2.PermissionStatement(
        statement_id="sns",
        action="lambda:InvokeFunction",
        principal="sns.amazonaws.com",
        source_arn="arn:aws:sns:*",
        **conditions,
    )
    rig.configuration.put(resource(function=make_function("echo", permissions=[statement])))
    assert (await post(rig, sns_path(query="x=1"), message(certificate))).status == status
    assert bool(pages.visited) is (status == 200)


async def test_at_aws_itself_a_token_does_not_spare_the_signature(rig: Rig, pages: HttpPages) -> None:
    """A server that stands for AWS may not serve the certificate that it names: there the token is enough."""
    certificate = make_certificate()
    pages.put(CERTIFICATE_PATH, certificate.pem)
    changed = {**message(certificate), "Message": "changed"}
    assert (await post(rig, sns_path(), changed)).status == 200
    assert not pages.visited
    rig.frontend._webhooks._sns._is_at_aws = True
    assert (await post(rig, sns_path(), {**changed, "MessageId": "2"})).status == 403
    assert (await post(rig, sns_path(), message(certificate, MessageId="3"))).status == 200
    assert len(rig.queue.events) == 2


async def test_a_certificate_that_cannot_be_fetched_is_to_be_tried_again(rig: Rig) -> None:
    """503: SNS posts again."""
    rig.frontend._webhooks._sns._is_at_aws = True
    assert (await post(rig, sns_path(), message(make_certificate()))).status == 503
    assert not rig.queue.events


async def test_a_subscription_is_confirmed_at_sns_alone(rig: Rig, pages: HttpPages) -> None:
    """At the endpoint that stands for AWS; an address anywhere else is not visited."""
    confirmation: dict[str, Any] = {"Type": "SubscriptionConfirmation", "Token": "t", "Message": "visit"}
    pages.put("/confirm", b"<ConfirmSubscriptionResponse/>")
    answer = await post(rig, sns_path(), message(**confirmation, SubscribeURL=f"{pages.url}/confirm?Token=t"))
    assert (answer.status, pages.visited) == (200, ["/confirm?Token=t"])
    pages.put("/away", b"", redirect_to=f"{pages.url}/confirm")
    for url, status in (
        (f"http://127.0.0.1:{rig.frontend.http.port}/_evenflow/health", 403),
        ("http://169.254.169.254/latest/meta-data/", 403),
        (f"{pages.url}/away", 503),
    ):
        assert (await post(rig, sns_path(), message(**confirmation, SubscribeURL=url))).status == status
    assert pages.visited == ["/confirm?Token=t", "/away"]
    assert (await post(rig, sns_path(), message(Type="UnsubscribeConfirmation"))).status == 200
    assert not rig.queue.events


async def test_a_function_that_is_not_there_is_told_to_sns(rig: Rig) -> None:
    """404, so that the topic's own dead-letter queue gets the message; other tenants' functions look the same."""
    for name in ("nobody", "theirs"):
        assert (await post(rig, sns_path(name), message())).status == 404
