"""The order and the bounds of what is to be looked at."""

from services.poller.sources.backlog import Backlog, Wish


def take_all(backlog: Backlog, now_ms: float = 0.0) -> list[Wish]:
    wishes = []
    while (wish := backlog.take(now_ms)) is not None:
        wishes.append(wish)
    return wishes


def test_each_path_is_taken_once_in_order() -> None:
    """A second wish for a waiting path is the same wish; that it was whole is remembered."""
    backlog = Backlog(10)
    for path, is_whole in [("b", False), ("a", False), ("b", True)]:
        assert backlog.add(path, is_whole=is_whole)
    assert [(w.path, w.is_whole) for w in take_all(backlog)] == [("b", True), ("a", False)]


def test_a_wish_during_the_look_is_a_further_look() -> None:
    """What was noticed while the path was looked at is looked at again, not at the same time."""
    backlog = Backlog(10)
    backlog.add("a", is_whole=False)
    [wish] = take_all(backlog)
    backlog.add("a", is_whole=True)
    assert take_all(backlog) == []
    backlog.end(wish)
    [again] = take_all(backlog)
    assert (again.path, again.is_whole, again.failures) == ("a", True, 0)
    backlog.end(again)
    assert (len(backlog), backlog.active) == (0, 0)


def test_what_is_put_off_comes_at_its_time() -> None:
    """By due time; it keeps its place in the bound meanwhile, and what it knows."""
    backlog = Backlog(2)
    backlog.add("a", is_whole=False)
    backlog.add("b", is_whole=False)
    a, b = take_all(backlog)
    a.failures = 3
    backlog.put_off(a, 20.0)
    backlog.put_off(b, 10.0)
    assert not backlog.add("c", is_whole=True)
    assert take_all(backlog, 9.9) == []
    assert take_all(backlog, 20.0) == [b, a]
    assert a.failures == 3


def test_a_close_ends_the_wait_to_settle_but_not_a_back_off() -> None:
    """A path that waits only to settle is ready when it was closed, once; one that was refused keeps its time."""
    backlog = Backlog(3)
    for path in ("settles", "closes", "refused"):
        backlog.add(path, is_whole=False)
    settles, closes, refused = take_all(backlog)
    refused.failures = 1
    backlog.add("closes", is_whole=True)
    for wish in (settles, closes, refused):
        backlog.put_off(wish, 10.0)
    assert take_all(backlog) == [closes]
    backlog.add("settles", is_whole=True)
    backlog.add("refused", is_whole=True)
    assert take_all(backlog) == [settles]
    assert take_all(backlog, 10.0) == [refused]


def test_a_full_backlog_says_so_but_knows_its_own() -> None:
    """No room for another path; a path that is in it may be wished for again."""
    backlog = Backlog(1)
    assert backlog.add("a", is_whole=False)
    assert backlog.is_full
    assert not backlog.add("b", is_whole=False)
    assert backlog.add("a", is_whole=True)


def test_clearing_leaves_what_is_under_way() -> None:
    """Active wishes end as usual and do not come again."""
    backlog = Backlog(10)
    for path in ("a", "b", "c"):
        backlog.add(path, is_whole=False)
    a, b = backlog.take(0.0), backlog.take(0.0)
    assert a is not None and b is not None
    backlog.put_off(b, 5.0)
    backlog.add("a", is_whole=True)
    backlog.clear()
    backlog.end(a)
    assert (len(backlog), backlog.active, take_all(backlog, 10.0)) == (0, 0, [])
