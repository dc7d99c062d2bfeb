"""`make bench`: Evenflow beside Huey, taskiq, Celery and NATS JetStream, on this machine, in one run."""

import os

# The bench starts its children by exec and never uses gRPC between fork and exec: gRPC's fork handlers would only
# complain at every start. Here, since gRPC reads it once, when it is first imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
