"""`locust -f loadtest/locustfile.py`: load on both doors, closed loop or open loop. See docs/load.md."""

from loadtest.locust_users import gevent_grpc  # First: before anything that makes a gRPC object. # noqa: F401, I001

import locust

from loadtest.locust_users.users import GrpcInvoke, GrpcInvokeAsync, GrpcPublishBatch, HttpEvent, HttpRequestResponse
from loadtest.locust_users.wiring import connect

__all__ = ["GrpcInvoke", "GrpcInvokeAsync", "GrpcPublishBatch", "HttpEvent", "HttpRequestResponse"]

connect(locust.events)
