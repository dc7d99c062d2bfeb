"""Structured logs: one JSON object a line on stderr, with request id and trace id where there is one."""

import json
import logging
import sys
import time
from typing import Any

_FIELDS = ("request_id", "trace_id", "tenant_id", "function_name", "shard_id", "error_reason", "peer")


class JsonFormatter(logging.Formatter):
    """Turns a record and its `extra` fields into one line of JSON."""

    def __init__(self, node_id: str) -> None:
        super().__init__()
        self._node_id = node_id

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "node": self._node_id,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in _FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(node_id: str, level: str) -> None:
    """Send this process's logs to stderr; call once, first thing."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(node_id))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These two speak at INFO for every call; their errors still come through.
    for noisy in ("grpc", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
