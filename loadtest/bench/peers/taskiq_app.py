"""taskiq as its workers load it: a Redis stream as broker, a handler in the worker's own loop, no results kept."""

import os
from typing import Any

from taskiq_redis import RedisStreamBroker

from loadtest.bench import ticks

URL_VARIABLE = "BENCH_REDIS_URL"
QUEUE_VARIABLE = "BENCH_REDIS_QUEUE"
# Enough for 64 calls in flight and the reader.
POOL_SIZE = 80


def make_broker(url: str, queue_name: str) -> Any:
    """A broker on this stream; "0": a group made after the first event still gets it."""
    return RedisStreamBroker(url, queue_name=queue_name, max_connection_pool_size=POOL_SIZE, consumer_id="0")


async def noop(payload: str) -> None:
    """The measured handler."""
    ticks.mark()


if URL_VARIABLE in os.environ:
    broker = make_broker(os.environ[URL_VARIABLE], os.environ[QUEUE_VARIABLE])
    broker.register_task(noop, task_name="noop")
