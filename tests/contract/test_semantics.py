"""Every sentence on AWS's behaviour is shown by tests that exist."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.contract import semantics
from tests.integration.poller.test_semantics import ROWS


@cache
def names_in(path: Path) -> frozenset[str]:
    """Names of the test functions of a file."""
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds) and node.name.startswith("test_"))


@pytest.mark.parametrize("section", semantics.SECTIONS)
def test_every_sentence_is_shown(section: str) -> None:
    """By at least one test, and each that is named is there."""
    for sentence in semantics.SECTIONS[section]:
        assert sentence.shown_by, sentence.says
        for node_id in sentence.shown_by:
            file, _, name = node_id.partition("::")
            path = semantics.ROOT / file
            assert path.is_file() and name in names_in(path), f"{sentence.says}: there is no {node_id}"


def test_every_row_of_the_table_driven_test_is_told() -> None:
    """A new row gets its place in the document by itself, or this says that it has none."""
    told = {sentence.says for sentences in semantics.SECTIONS.values() for sentence in sentences}
    assert {row.says for row in ROWS} <= told


def test_the_document_is_up_to_date() -> None:
    """`python -m tests.contract.semantics --write` brings it there."""
    assert semantics.DOCUMENT.read_text() == semantics.text()
