"""Records and dead letters to AWS neighbours: SQS, SNS, EventBridge, S3, each in the form that AWS Lambda gives it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from services.policy import records
from services.policy.destinations import SMALL_MESSAGE_BYTES, Destination, Kind
from services.poller.neighbour_lanes import NeighbourLanes
from services.shared.aws import AwsCalls, AwsClients, queue_url
from services.shared.aws_errors import translate
from services.shared.errors import EvenflowError, Reason

# What EventBridge answers for one entry and what may pass by itself.
_PASSING = frozenset(("InternalException", "InternalFailure", "ThrottlingException", "ServiceUnavailable"))
# Reasons under which a neighbour refuses what is too large for it.
_TOO_LARGE = (Reason.ERROR_REASON_REQUEST_TOO_LARGE, Reason.ERROR_REASON_INVALID_PARAMETER)


@dataclass(frozen=True, slots=True)
class Letter:
    """What one neighbour gets. `body`: JSON; `short_body`: the same without payloads, for one that takes less.

    `trace_header`: X-Ray's, for queues, so that the chain goes on behind them. `key`: of the object in a bucket.
    """

    destination: Destination
    body: bytes
    short_body: bytes
    trace_header: str
    condition: str
    ended_ms: int
    function_arn: str
    key: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A neighbour has it. `is_shortened`: without payloads."""

    is_shortened: bool = False


Told = Callable[[Taken | EvenflowError], None]


class Neighbours:
    """Tells AWS neighbours; every call is one of the pool's, nothing waits on the loop."""

    def __init__(self, calls: AwsCalls, endpoint_url: str) -> None:
        self._lanes = NeighbourLanes(calls, calls.threads)
        self._endpoint_url = endpoint_url

    def send_record(self, letter: Letter, told: Told) -> None:
        """Send a record; `told` hears, later, that it is there or why not."""
        send = partial(_send_record, letter=letter, endpoint_url=self._endpoint_url)
        self._lanes.start(letter.destination.arn, send, told)

    def send_event(
        self, destination: Destination, payload: bytes, attributes: dict[str, dict[str, str]], header: str, told: Told
    ) -> None:
        """Send an event itself to a dead-letter queue; the same."""

        def send(clients: AwsClients) -> Taken:
            body = records.json_text(payload)
            if destination.kind is Kind.TOPIC:
                _publish(clients, destination, body, attributes)
            else:
                _enqueue(clients, destination, body, self._endpoint_url, header, attributes)
            return Taken()

        self._lanes.start(destination.arn, send, told)


def _send_record(clients: AwsClients, *, letter: Letter, endpoint_url: str) -> Taken:
    bound = letter.destination.max_bytes
    if bound is not None and len(letter.body) > bound:
        _deliver(clients, letter, letter.short_body, endpoint_url)
        return Taken(is_shortened=True)
    try:
        _deliver(clients, letter, letter.body, endpoint_url)
    except Exception as e:
        # A queue may be set to take less, and a server that stands for AWS may know older bounds.
        if bound is None or len(letter.body) < SMALL_MESSAGE_BYTES or not _is_too_large(e):
            raise
        _deliver(clients, letter, letter.short_body, endpoint_url)
        return Taken(is_shortened=True)
    return Taken()


def _is_too_large(error: Exception) -> bool:
    known = error if isinstance(error, EvenflowError) else translate(error)
    return known.reason in _TOO_LARGE


def _deliver(clients: AwsClients, letter: Letter, body: bytes, endpoint_url: str) -> None:
    destination = letter.destination
    match destination.kind:
        case Kind.QUEUE:
            _enqueue(clients, destination, records.json_text(body), endpoint_url, letter.trace_header)
        case Kind.TOPIC:
            _publish(clients, destination, records.json_text(body))
        case Kind.EVENT_BUS:
            _put_event(clients, letter, body)
        case Kind.BUCKET:
            clients.get("s3").put_object(
                Bucket=destination.name, Key=letter.key, Body=body, ContentType="application/json"
            )
        case Kind.FUNCTION:
            raise AssertionError("functions are reached through a door")


def _enqueue(
    clients: AwsClients,
    destination: Destination,
    body: str,
    endpoint_url: str,
    trace_header: str,
    attributes: dict[str, dict[str, str]] | None = None,
) -> None:
    system = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace_header}} if trace_header else {}
    clients.get("sqs", destination.region).send_message(
        QueueUrl=queue_url(endpoint_url, destination.arn),
        MessageBody=body,
        MessageAttributes=attributes or {},
        MessageSystemAttributes=system,
    )


def _publish(
    clients: AwsClients, destination: Destination, body: str, attributes: dict[str, dict[str, str]] | None = None
) -> None:
    clients.get("sns", destination.region).publish(
        TopicArn=destination.arn, Message=body, MessageAttributes=attributes or {}
    )


def _put_event(clients: AwsClients, letter: Letter, body: bytes) -> None:
    destination = letter.destination
    answer = clients.get("events", destination.region).put_events(
        Entries=[
            {
                "Time": letter.ended_ms / 1_000,
                "Source": records.EVENT_SOURCE,
                "Resources": [destination.arn, letter.function_arn],
                "DetailType": records.detail_type(letter.condition),
                "Detail": records.json_text(body),
                "EventBusName": destination.arn,
            }
        ]
    )
    if answer.get("FailedEntryCount"):
        (entry,) = answer["Entries"]
        code = str(entry.get("ErrorCode"))
        reason = Reason.ERROR_REASON_UNAVAILABLE if code in _PASSING else Reason.ERROR_REASON_INVALID_PARAMETER
        raise EvenflowError(reason, f"PutEvents: {code}: {entry.get('ErrorMessage')}", metadata={"aws_code": code})
