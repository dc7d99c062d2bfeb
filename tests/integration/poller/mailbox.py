"""Queues at the AWS neighbour that collect what destinations and dead-letter queues get."""

import json
from dataclasses import dataclass
from typing import Any

from tests.kit.aws_neighbour import ACCOUNT, REGION, AwsNeighbour
from tests.kit.waiting import eventually

WAIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Mail:
    """One message. `attributes`: name -> (type, value)."""

    body: str
    attributes: dict[str, tuple[str, str]]
    trace_header: str

    @property
    def record(self) -> dict[str, Any]:
        """The body as JSON."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Mailbox:
    """One queue, which also hears a topic, or a rule of an event bus."""

    def __init__(self, neighbour: AwsNeighbour, name: str) -> None:
        self._neighbour = neighbour
        self._sqs = neighbour.client("sqs")
        self.name = name
        self.url: str = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        self.arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
        self._mail: list[Mail] = []

    def hear_topic(self) -> str:
        """A topic of the same name whose messages come here as they are; its ARN."""
        sns = self._neighbour.client("sns")
        arn: str = sns.create_topic(Name=self.name)["TopicArn"]
        sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=self.arn, Attributes={"RawMessageDelivery": "true"})
        return arn

    def hear_bus(self) -> str:
        """An event bus of the same name whose events of Lambda come here; its ARN."""
        events = self._neighbour.client("events")
        arn: str = events.create_event_bus(Name=self.name)["EventBusArn"]
        pattern = json.dumps({"source": ["lambda"]})
        events.put_rule(Name=self.name, EventBusName=self.name, EventPattern=pattern, State="ENABLED")
        events.put_targets(Rule=self.name, EventBusName=self.name, Targets=[{"Id": "1", "Arn": self.arn}])
        return arn

    def read(self) -> list[Mail]:
        """All that has come until now."""
        while found := self._sqs.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=600,
            MessageAttributeNames=["All"],
            AttributeNames=["All"],
        ).get("Messages"):
            for message in found:
                attributes = {
                    name: (value["DataType"], value["StringValue"])
                    for name, value in message.get("MessageAttributes", {}).items()
                }
                header = message.get("Attributes", {}).get("AWSTraceHeader", "")
                self._mail.append(Mail(message["Body"], attributes, header))
        return list(self._mail)

    async def wait(self, count: int = 1) -> list[Mail]:
        """So many, once they are there; never more."""
        found = await eventually(
            lambda: mail if len(mail := self.read()) >= count else None, WAIT_SECONDS, f"{count} in {self.name}"
        )
        assert found is not None and len(found) == count, [mail.body for mail in found or ()]
        return found
