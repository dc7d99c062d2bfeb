"""The kinds of requests, one a user class: what each is called in Locust's tables. Pure."""

from dataclasses import dataclass

HTTP = "HTTP"
GRPC = "GRPC"


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to send an event. door: HTTP or GRPC, the type of its rows; name: the operation, the name of its rows.

    is_async: the answer says that the event is kept, not what its handler returned.
    """

    door: str
    name: str
    is_async: bool


# By the name of the user class.
KINDS = {
    "HttpEvent": Kind(HTTP, "Event", True),
    "HttpRequestResponse": Kind(HTTP, "RequestResponse", False),
    "GrpcInvokeAsync": Kind(GRPC, "InvokeAsync", True),
    "GrpcInvoke": Kind(GRPC, "Invoke", False),
    "GrpcPublishBatch": Kind(GRPC, "PublishBatch", True),
}
