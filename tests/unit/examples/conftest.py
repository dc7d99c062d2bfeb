"""Fixtures for the podcast example: its two functions and two empty buckets."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from tests.unit.examples.podcast_kit import load_function


class Buckets(NamedTuple):
    """The folders that stand for the example's buckets."""

    inbox: Path
    outbox: Path


@pytest.fixture(scope="session")
def clean_code() -> dict[str, ModuleType]:
    """The modules of function `clean`, by name."""
    return load_function("clean")


@pytest.fixture(scope="session")
def index_code() -> dict[str, ModuleType]:
    """The modules of function `index`, by name."""
    return load_function("index")


@pytest.fixture
def buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Buckets:
    """Two empty buckets, named to the functions by the environment as the runtime does."""
    folders = Buckets(tmp_path / "podcast-in", tmp_path / "podcast-out")
    for folder in folders:
        folder.mkdir()
    monkeypatch.setenv("EVENFLOW_BUCKET_PODCAST_IN", str(folders.inbox))
    monkeypatch.setenv("EVENFLOW_BUCKET_PODCAST_OUT", str(folders.outbox))
    monkeypatch.setenv("OUTPUT_BUCKET", "podcast-out")
    monkeypatch.setenv("CATALOGUE_BUCKET", "podcast-out")
    return folders
