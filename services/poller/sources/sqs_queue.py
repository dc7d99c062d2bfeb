"""One SQS queue as a mapping uses it: receive, delete, give back; by its ARN, through the pools of calls to AWS."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from services.shared.aws import AwsCalls, queue_url
from services.shared.errors import EvenflowError

# SQS's own: messages of one call, seconds of a visibility timeout and of a long poll.
MAX_PER_CALL = 10
MAX_VISIBILITY_SECONDS = 43_200
MAX_WAIT_SECONDS = 20
DEFAULT_VISIBILITY_SECONDS = 30


class SqsQueue:
    """Calls fail with EvenflowError, `kind.retryable` says whether a repeat may help."""

    def __init__(self, queue_arn: str, endpoint_url: str, polls: AwsCalls, calls: AwsCalls) -> None:
        """`polls` takes receives, which last; `calls` the rest. EvenflowError: this is no queue's ARN."""
        self.queue_arn = queue_arn
        self._url = queue_url(endpoint_url, queue_arn)
        self.region = queue_arn.split(":")[3]
        self._polls = polls
        self._calls = calls

    async def visibility_seconds(self) -> int:
        """The queue's visibility timeout; SQS's default where it may not be read."""
        answer = await self._calls.call(
            "sqs",
            "get_queue_attributes",
            region=self.region,
            QueueUrl=self._url,
            AttributeNames=["VisibilityTimeout"],
        )
        return int((answer.get("Attributes") or {}).get("VisibilityTimeout", DEFAULT_VISIBILITY_SECONDS))

    async def receive(self, count: int, visibility_seconds: int, wait_seconds: int) -> Sequence[Mapping[str, Any]]:
        """At most `count` messages, 1 to 10, invisible to others for so long; waits for the first at most so long."""
        answer = await self._polls.call(
            "sqs",
            "receive_message",
            region=self.region,
            QueueUrl=self._url,
            MaxNumberOfMessages=count,
            VisibilityTimeout=visibility_seconds,
            WaitTimeSeconds=wait_seconds,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        found: Sequence[Mapping[str, Any]] = answer.get("Messages") or ()
        return found

    async def delete(self, receipts: Sequence[str]) -> list[str]:
        """Delete the messages of these receipts; those that could not be deleted are answered."""
        return await self._in_tens("delete_message_batch", receipts, {})

    async def give_back(self, receipts: Sequence[str], after_seconds: float) -> list[str]:
        """Make these messages visible to others again after so long; those that could not be are answered."""
        seconds = min(MAX_VISIBILITY_SECONDS, max(0, math.ceil(after_seconds)))
        return await self._in_tens("change_message_visibility_batch", receipts, {"VisibilityTimeout": seconds})

    async def _in_tens(self, operation: str, receipts: Sequence[str], more: Mapping[str, Any]) -> list[str]:
        left: list[str] = []
        for start in range(0, len(receipts), MAX_PER_CALL):
            part = receipts[start : start + MAX_PER_CALL]
            entries = [{"Id": str(index), "ReceiptHandle": receipt, **more} for index, receipt in enumerate(part)]
            try:
                answer = await self._calls.call(
                    "sqs", operation, region=self.region, QueueUrl=self._url, Entries=entries
                )
            except EvenflowError:
                left.extend(part)
                continue
            done = {entry["Id"] for entry in answer.get("Successful") or ()}
            left.extend(receipt for index, receipt in enumerate(part) if str(index) not in done)
        return left
