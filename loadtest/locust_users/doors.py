"""Both doors of one process, and which of them each kind of request goes to."""

from collections.abc import Sequence

from loadtest.locust_users.answers import Answer
from loadtest.locust_users.grpc_door import GrpcDoor
from loadtest.locust_users.http_door import EVENT, REQUEST_RESPONSE, HttpDoor
from loadtest.locust_users.settings import Settings


class Doors:
    """Connections that all users of a process share."""

    def __init__(self, host: str, settings: Settings) -> None:
        """`host`: the HTTP door's URL."""
        answer_seconds = settings.answer_seconds
        self.grpc = GrpcDoor(settings.grpc, settings.function, answer_seconds)
        self._http = HttpDoor(host, settings.function, settings.in_flight, answer_seconds)

    def send(self, user: str, payloads: Sequence[bytes], key: str) -> Answer:
        """One request of this user class; but for a batch there is one payload. NotTaken: it failed."""
        match user:
            case "HttpEvent":
                return self._http.send(EVENT, payloads[0], key)
            case "HttpRequestResponse":
                return self._http.send(REQUEST_RESPONSE, payloads[0], key)
            case "GrpcInvokeAsync":
                return self.grpc.invoke_async(payloads[0], key)
            case "GrpcInvoke":
                return self.grpc.invoke(payloads[0], key)
            case "GrpcPublishBatch":
                return self.grpc.publish_batch(payloads, key)
        raise ValueError(f"{user!r} is no user class of these doors")

    def close(self) -> None:
        """Hang up."""
        self.grpc.close()
        self._http.close()
