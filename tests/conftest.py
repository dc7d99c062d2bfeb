"""Fixtures for every test."""

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop

# uvloop starts programs by a fork that runs Python's at-fork handlers: OpenTelemetry's make many objects there, and to
# collect gRPC's in the child crashes it before it is the program. First come, first called: this is before theirs.
os.register_at_fork(after_in_child=gc.disable)


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A private folder with a short path: a unix socket's path holds 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="ef-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    """The loop that services run on: its transports and timers differ from asyncio's."""
    return {"uvloop": uvloop.new_event_loop}
