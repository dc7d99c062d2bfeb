"""`python -m loadtest.bench.peers.jetstream_worker URL`: a pull consumer whose handler only parses, until SIGTERM."""

import asyncio
import contextlib
import json
import signal
import sys

import nats
import uvloop
from nats.errors import TimeoutError as NatsTimeoutError

from loadtest.bench import ticks
from loadtest.bench.peers.jetstream_peer import CONSUMER, FETCH_EVENTS, WORK_SUBJECT

# An idle fetch is asked again so often; what comes meanwhile ends it at once.
_FETCH_SECONDS = 5.0


async def work(url: str) -> None:
    """Fetch, parse, note, acknowledge."""
    client = await nats.connect(url)
    subscription = await client.jetstream().pull_subscribe(WORK_SUBJECT, durable=CONSUMER)
    while True:
        with contextlib.suppress(NatsTimeoutError):
            for message in await subscription.fetch(FETCH_EVENTS, timeout=_FETCH_SECONDS):
                json.loads(message.data)
                ticks.mark()
                await message.ack()


async def main(url: str) -> None:
    """Until SIGTERM."""
    task = asyncio.ensure_future(work(url))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
