"""Fixtures for every test."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A private folder with a short path: a unix socket's path holds 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="ef-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    """The loop that services run on: its transports and timers differ from asyncio's."""
    return {"uvloop": uvloop.new_event_loop}
