"""The stories, and that a story which is not true is noticed."""

from pathlib import Path

import pytest

from tests.stories.runner import Command, StoryError, check, expanded, listed, replayed
from tests.stories.shard_story import ShardStory

STORIES = sorted((Path(__file__).parent / "queue").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=[path.stem for path in STORIES])
def test_story_of_a_shard(path: Path, run_dir: Path) -> None:
    story = ShardStory(run_dir)
    try:
        check(path, story.run)
    finally:
        story.close()


def test_a_story_that_is_not_true_is_noticed(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REWRITE", raising=False)
    path = run_dir / "wrong.txt"
    path.write_text("# Prose.\nsend a\n----\na: refused\n")
    story = ShardStory(run_dir)
    with pytest.raises(AssertionError, match=r"wrong\.txt prints something else"):
        check(path, story.run)
    story.close()
    assert path.read_text().endswith("a: refused\n")


def test_rewrite_keeps_the_prose_and_writes_what_is_printed(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWRITE", "1")
    path = run_dir / "wrong.txt"
    path.write_text("# Prose.\nsend a\n----\nnonsense\n\n# More.\nlease\n----\n")
    story = ShardStory(run_dir)
    check(path, story.run)
    story.close()
    assert path.read_text() == "# Prose.\nsend a\n----\na: stored\n\n# More.\nlease\n----\na\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("dance a\n----\n", "line 1: no command dance; there are shard, send"),
        ("# Prose.\nsend a\nlease\n", "line 2: after 'send a' comes ----"),
        ("wait soon\n----\n", "line 1: 'soon' is no time"),
        ("ack a\n----\n", "line 1: a was never leased"),
        ('send "a\n----\n', "line 1: No closing quotation"),
    ],
)
def test_a_story_that_cannot_be_run_says_why(text: str, reason: str, run_dir: Path) -> None:
    story = ShardStory(run_dir)
    with pytest.raises(StoryError, match=reason):
        replayed(text, story.run)
    story.close()


def test_ranges_of_names_read_as_they_are_written() -> None:
    assert expanded(["a", "b-1..3"]) == ["a", "b-1", "b-2", "b-3"]
    assert listed(["a", "b-1", "b-2", "b-3", "c1", "c2"]) == "a, b-1..3, c1, c2"
    assert Command(1, "x", [], {"age": "2m"}).span_ms("age", "0s") == 120_000
