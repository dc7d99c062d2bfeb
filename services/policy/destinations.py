"""What the ARN of a destination or dead-letter queue names, and how much it takes at once. Pure."""

import enum
import re
from dataclasses import dataclass

from services.policy.arns import parse_reference

# What SNS takes, and what every neighbour took before some of them took more.
SMALL_MESSAGE_BYTES = 262_144
LARGE_MESSAGE_BYTES = 1_048_576
# Room for the attributes of a message, or for an entry's fields beside its detail.
MESSAGE_OVERHEAD_BYTES = 4_096
_ARN = re.compile(r"arn:[a-z0-9-]+:(?P<service>[a-z0-9]+):(?P<region>[a-z0-9-]*):(?P<account>\d*):(?P<rest>.+)")
_FIFO = ".fifo"
_BUS = "event-bus/"


class Kind(enum.Enum):
    """What a destination is; the values are the services in its ARN."""

    FUNCTION = "lambda"
    QUEUE = "sqs"
    TOPIC = "sns"
    EVENT_BUS = "events"
    BUCKET = "s3"


MAX_MESSAGE_BYTES = {
    Kind.QUEUE: LARGE_MESSAGE_BYTES,
    Kind.TOPIC: SMALL_MESSAGE_BYTES,
    Kind.EVENT_BUS: LARGE_MESSAGE_BYTES,
}


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a record or an event goes. `name`: bucket, queue, topic or bus; of a function all that the ARN says."""

    kind: Kind
    arn: str
    region: str
    name: str

    @property
    def max_bytes(self) -> int | None:
        """Longest record that it takes whole, with room for what goes beside it; None: any that there can be."""
        bound = MAX_MESSAGE_BYTES.get(self.kind)
        return None if bound is None else bound - MESSAGE_OVERHEAD_BYTES


def names_function(arn: str) -> bool:
    """Whether this is a function's ARN or name."""
    return not arn.startswith("arn:") or ":lambda:" in arn[:40]


def parse_destination(arn: str, *, is_success: bool) -> Destination:
    """What gets the records of successes or failures. ValueError, with a sentence: it cannot."""
    if names_function(arn):
        try:
            named = parse_reference(arn)
        except ValueError:
            raise ValueError(f"the destination {arn} is no function") from None
        return Destination(Kind.FUNCTION, arn, named.region or "", arn)
    found = _parse(arn)
    if found.kind is Kind.BUCKET and is_success:
        raise ValueError(f"the destination {arn} is a bucket: those get records of failures only")
    return found


def parse_dead_letter_queue(arn: str) -> Destination:
    """What gets the events themselves. ValueError, with a sentence: it is no queue and no topic."""
    found = _parse(arn)
    if found.kind not in (Kind.QUEUE, Kind.TOPIC):
        raise ValueError(f"the dead-letter queue {arn} is no SQS queue and no SNS topic")
    return found


def _parse(arn: str) -> Destination:
    found = _ARN.fullmatch(arn)
    wrong = f"{arn} is no queue, topic, event bus, bucket or function"
    if found is None:
        raise ValueError(wrong)
    service, region, rest = found["service"], found["region"], found["rest"]
    try:
        kind = Kind(service)
    except ValueError:
        raise ValueError(wrong) from None
    name = rest
    match kind:
        case Kind.QUEUE | Kind.TOPIC:
            if rest.endswith(_FIFO):
                raise ValueError(f"{arn} is first-in-first-out: only standard queues and topics can be destinations")
            if not region or not found["account"] or ":" in rest:
                raise ValueError(wrong)
        case Kind.EVENT_BUS:
            if not region or not rest.startswith(_BUS) or len(rest) == len(_BUS):
                raise ValueError(wrong)
            name = rest.removeprefix(_BUS)
        case Kind.BUCKET:
            name = rest.partition("/")[0]
        case _:
            raise ValueError(wrong)
    return Destination(kind, arn, region, name)
