"""Calls to AWS neighbours (SQS, SNS, EventBridge, S3), or to servers that speak as they do.

botocore is used as it is, on threads of a bounded pool of its own: loading it takes half a second, so that happens with
the first call and never on the loop. botocore's own retries are off: who calls has a back-off that survives a restart.
Credentials come from where AWS's tools take them: environment, profile, role of the machine.
"""

import asyncio
import dataclasses
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from services.policy.arns import REGION
from services.shared.aws_errors import translate
from services.shared.call_threads import CallThreads
from services.shared.errors import EvenflowError, Reason
from services.shared.settings import NodeSettings, setting

T = TypeVar("T")
Answer = Mapping[str, Any]
# Calls that wait for a thread; beyond it a call is refused and may be repeated.
MAX_WAITING_CALLS = 10_000
READ_CHUNK_BYTES = 1 << 20
# Clients in memory, some 2 MB each: regions come from ARNs that whoever deploys writes.
MAX_CLIENTS = 64
_REGION = re.compile(REGION)
# Only the last part differs between AWS's partitions.
_SUFFIXES = {"aws-cn": "amazonaws.com.cn"}
_SUFFIX = "amazonaws.com"


@dataclasses.dataclass(frozen=True, slots=True)
class AwsSettings(NodeSettings):
    """For services that call AWS neighbours."""

    aws_endpoint_url: str = setting(
        "aws.endpoint_url",
        "",
        help="URL of a server that stands for SQS, SNS, EventBridge and S3; empty: AWS itself.",
    )
    aws_region: str = setting("aws.region", "us-east-1", help="Region of a call where no ARN names one.")
    aws_calls: int = setting("aws.calls", 16, minimum=1, maximum=256, help="Calls to AWS at once, of each process.")
    aws_connect_seconds: float = setting(
        "aws.connect_seconds", 3.0, minimum=0.05, maximum=60, help="Longest time to reach an AWS service."
    )
    aws_read_seconds: float = setting(
        "aws.read_seconds", 10.0, minimum=0.05, maximum=300, help="Longest silence of an AWS service in a call."
    )


class AwsClients:
    """botocore clients by service and region, each made when first asked for; safe to use from many threads.

    The 64 that were used last are kept.
    """

    def __init__(self, settings: AwsSettings, connections: int, read_seconds: float) -> None:
        self._settings = settings
        self._connections = connections
        self._read_seconds = read_seconds
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def get(self, service: str, region: str = "") -> Any:
        """The client of "sqs", "sns", "events" or "s3"; empty region: the setting's. Blocks while botocore loads.

        EvenflowError INVALID_PARAMETER: that is no region.
        """
        if region and not _REGION.fullmatch(region):
            text = f"{region[:80]!r} is no region of AWS such as us-east-1"
            raise EvenflowError(Reason.ERROR_REASON_INVALID_PARAMETER, text)
        key = (service, region or self._settings.aws_region)
        # Sessions are not safe to share while a client is made.
        with self._lock:
            client = self._clients.get(key)
            if client is None:
                client = self._clients[key] = self._make(*key)
                # Calls that others make with the one that goes end as they would; then its connections are closed.
                if len(self._clients) > MAX_CLIENTS:
                    self._clients.popitem(last=False)
            self._clients.move_to_end(key)
        return client

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _make(self, service: str, region: str) -> Any:
        # Half a second, and most processes never call AWS.
        from botocore import config, session

        # Neither ships types.
        new_session: Any = session.Session
        new_config: Any = config.Config
        if self._session is None:
            self._session = new_session()
        settings = self._settings
        how = new_config(
            connect_timeout=settings.aws_connect_seconds,
            read_timeout=self._read_seconds,
            max_pool_connections=self._connections,
            retries={"total_max_attempts": 1, "mode": "standard"},
            # A server at a plain address has no names for buckets.
            s3={"addressing_style": "path"} if settings.aws_endpoint_url else None,
        )
        return self._session.create_client(
            service, region_name=region, endpoint_url=settings.aws_endpoint_url or None, config=how
        )


class AwsCalls:
    """Runs calls on threads named `name`; answers come back on the loop."""

    def __init__(
        self, settings: AwsSettings, name: str, *, threads: int | None = None, read_seconds: float | None = None
    ) -> None:
        """`threads`, `read_seconds`: where the settings' do not fit, such as for long polls."""
        self._settings = settings
        self.threads = threads or settings.aws_calls
        self._clients = AwsClients(settings, self.threads, read_seconds or settings.aws_read_seconds)
        self._pool = CallThreads(name, self.threads)
        # Who waits for an answer, by a number of the call.
        self._waiting: dict[int, Callable[[Any], None]] = {}
        self._last_number = 0

    @property
    def under_way(self) -> int:
        """Calls that run or wait for a thread."""
        return len(self._waiting)

    def start(self, work: Callable[[AwsClients], T], done: Callable[[T | EvenflowError], None]) -> None:
        """Run `work` on a thread; `done` gets its answer or refusal on the loop, once, and never before this returns.

        UNAVAILABLE: too many calls wait, or the pool is closed.
        """
        loop = asyncio.get_running_loop()
        if self._pool.is_closed:
            loop.call_soon(done, _unavailable("this process stops"))
            return
        if len(self._waiting) >= self.threads + MAX_WAITING_CALLS:
            loop.call_soon(done, _unavailable(f"{MAX_WAITING_CALLS} calls to AWS wait already: try again"))
            return
        number = self._last_number = self._last_number + 1

        def ended(answer: T | EvenflowError) -> None:
            # Closed meanwhile: it was told already.
            if self._waiting.pop(number, None) is not None:
                done(answer)

        self._waiting[number] = ended
        self._pool.run(lambda: _call_soon(loop, partial(ended, self._run(work))))

    async def run(self, work: Callable[[AwsClients], T]) -> T:
        """The answer of `work`, from a thread. EvenflowError."""
        answered: asyncio.Future[T | EvenflowError] = asyncio.get_running_loop().create_future()

        def done(answer: T | EvenflowError) -> None:
            if not answered.done():
                answered.set_result(answer)

        self.start(work, done)
        answer = await answered
        if isinstance(answer, EvenflowError):
            raise answer
        return answer

    async def call(self, service: str, operation: str, *, region: str = "", **parameters: Any) -> Answer:
        """One API call, such as `call("sqs", "send_message", QueueUrl=..., MessageBody=...)`. EvenflowError."""
        return await self.run(partial(call_api, service=service, operation=operation, region=region, **parameters))

    async def read_object(self, bucket: str, key: str, max_bytes: int, version_id: str = "") -> bytes:
        """An S3 object whole. EvenflowError REQUEST_TOO_LARGE beyond `max_bytes`, RESOURCE_NOT_FOUND."""
        return await self.run(partial(_read_object, bucket=bucket, key=key, max_bytes=max_bytes, version_id=version_id))

    async def close(self) -> None:
        """Start no call any more. Those that run may still be done; who waits for one is told that it is not known."""
        self._pool.close()
        for ended in list(self._waiting.values()):
            ended(EvenflowError(Reason.ERROR_REASON_OUTCOME_UNKNOWN, "this process stops: the call may have been made"))
        self._clients.close()

    def _run(self, work: Callable[[AwsClients], T]) -> T | EvenflowError:
        try:
            return work(self._clients)
        except EvenflowError as e:
            return e
        except Exception as e:
            return translate(e)


def call_api(clients: AwsClients, *, service: str, operation: str, region: str = "", **parameters: Any) -> Answer:
    """One API call on this thread. botocore's exceptions."""
    answer: Answer = getattr(clients.get(service, region), operation)(**parameters)
    return answer


def queue_url(endpoint_url: str, queue_arn: str) -> str:
    """The address of an SQS queue: at the endpoint, or AWS's own where that is empty. INVALID_PARAMETER."""
    parts = queue_arn.split(":")
    if len(parts) != 6 or parts[0] != "arn" or parts[2] != "sqs" or not all((parts[3], parts[4], parts[5])):
        raise EvenflowError(
            Reason.ERROR_REASON_INVALID_PARAMETER,
            f"{queue_arn!r} is no ARN of a queue: arn:aws:sqs:REGION:ACCOUNT:NAME is expected",
        )
    _, partition, _, region, account, name = parts
    base = endpoint_url.rstrip("/") or f"https://sqs.{region}.{_SUFFIXES.get(partition, _SUFFIX)}"
    return f"{base}/{account}/{name}"


def _read_object(clients: AwsClients, *, bucket: str, key: str, max_bytes: int, version_id: str) -> bytes:
    which = {"Bucket": bucket, "Key": key, **({"VersionId": version_id} if version_id else {})}
    body = clients.get("s3").get_object(**which)["Body"]
    parts: list[bytes] = []
    size = 0
    try:
        while part := body.read(READ_CHUNK_BYTES):
            size += len(part)
            if size > max_bytes:
                raise EvenflowError(
                    Reason.ERROR_REASON_REQUEST_TOO_LARGE, f"s3://{bucket}/{key} has more than {max_bytes} bytes"
                )
            parts.append(part)
    finally:
        body.close()
    return b"".join(parts)


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        # The loop is closed: nobody waits any more.
        pass


def _unavailable(message: str) -> EvenflowError:
    return EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, message)
