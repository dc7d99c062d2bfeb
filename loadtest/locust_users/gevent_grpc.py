"""Makes gRPC yield to other greenlets while it waits. Imported before anything that makes a gRPC object.

Without it a call holds up the whole process: twenty users send one after the other, and each still reports the fine
latency of its own call.
"""

import locust  # Patches the standard library for gevent, which must come first. # noqa: F401
from grpc.experimental import gevent as grpc_gevent

grpc_gevent.init_gevent()
