"""One request of the Lambda API on its way: who calls, for what, and what its answer is made with."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.frontend.lambda_api.control_calls import ControlCalls
from services.frontend.lambda_api.links import Links


class ObjectStore(Protocol):
    """Where S3Bucket and S3Key lead (services.shared.aws.AwsCalls)."""

    async def read_object(self, bucket: str, key: str, max_bytes: int, version_id: str = "") -> bytes:
        """An object whole. EvenflowError."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """`params` keep the model's bounds; `region` is the signature's; `authority` is the door as the caller named it."""

    operation: str
    params: Mapping[str, Any]
    tenant_id: str
    account_id: str
    region: str
    authority: str
    wall_ms: int
    control: ControlCalls
    objects: ObjectStore
    links: Links
    # Patterns of the AWS resources that the tenant may name.
    neighbours: Sequence[str] = ()

    def arn(self, rest: str) -> str:
        """An ARN of Lambda in the request's region, such as of "function:NAME"."""
        return f"arn:aws:lambda:{self.region}:{self.account_id}:{rest}"


Result = Mapping[str, Any]
Handler = Callable[[Call], Awaitable[Result]]
