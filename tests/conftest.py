"""Fixtures for every test."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A private folder with a short path: a unix socket's path holds 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="ef-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
