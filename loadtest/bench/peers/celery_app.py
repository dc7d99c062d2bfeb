"""Celery as its workers load it: Redis as broker, acknowledged late, no results kept."""

import os
from typing import Any, cast

from celery import Celery

from loadtest.bench import ticks

URL_VARIABLE = "BENCH_CELERY_URL"
QUEUE_VARIABLE = "BENCH_CELERY_QUEUE"


def make_app(url: str, queue_name: str) -> tuple[Any, Any]:
    """An app on this queue and its registered handler."""
    # Celery ships no types.
    app = cast(Any, Celery)("bench", broker=url, set_as_current=False)
    app.conf.update(
        task_acks_late=True,
        task_ignore_result=True,
        task_default_queue=queue_name,
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
    )
    return app, app.task(name="noop")(noop)


def noop(payload: str) -> None:
    """The measured handler."""
    ticks.mark()


if URL_VARIABLE in os.environ:
    app, _ = make_app(os.environ[URL_VARIABLE], os.environ[QUEUE_VARIABLE])
