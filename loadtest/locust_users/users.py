"""The user classes: each user is a closed loop of one kind of request; in an open loop they only name the kinds."""

import gevent
from locust import User, constant, task

from loadtest.locust_users.driver import DEFAULT_HOST, Driver
from loadtest.locust_users.wiring import running

_IDLE_SECONDS = 0.1


class _DoorUser(User):
    """Sends one request after the other's answer."""

    abstract = True
    # Where `evenflow up` listens; --host changes it.
    host = DEFAULT_HOST
    # A closed loop as fast as it goes. It hides stalls: while a door stands still, nobody sends, and nobody waits.
    wait_time = constant(0)

    @task
    def send(self) -> None:
        """One request."""
        driver: Driver | None = running(self.environment)
        if driver is None:
            # This process takes no part in the run.
            gevent.sleep(_IDLE_SECONDS)
        else:
            driver.closed_send(type(self).__name__)


class HttpEvent(_DoorUser):
    """HTTP door, asynchronous: InvocationType Event."""


class HttpRequestResponse(_DoorUser):
    """HTTP door, synchronous: InvocationType RequestResponse."""


class GrpcInvokeAsync(_DoorUser):
    """gRPC door, asynchronous: InvokeAsync."""


class GrpcInvoke(_DoorUser):
    """gRPC door, synchronous: Invoke."""


class GrpcPublishBatch(_DoorUser):
    """gRPC door, asynchronous: PublishBatch."""
