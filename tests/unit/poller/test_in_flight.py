"""What a poller knows of a function's runs at hosts, and of hosts that have no part of its reservation."""

from services.poller.functions import MAX_NO_SHARE_MS, NO_SHARE_MS, InFlight


def test_runs_are_counted_by_host() -> None:
    running = InFlight()
    for host_id in ("a", "a", "b"):
        running.began(host_id)
    running.ended("b")
    assert (running.count, running.by_host) == (2, {"a": 2})


def test_a_host_without_a_share_is_tried_later_and_later() -> None:
    """Refusals that were under way at once are one; a run there ends it all."""
    running, now_ms, waits = InFlight(), 1_000.0, []
    for _ in range(7):
        for later_ms in (0.0, 10.0, 20.0):
            running.refused("a", now_ms + later_ms)
        began_ms = now_ms
        while "a" in running.hosts_without_share(now_ms):
            now_ms += 100.0
        waits.append(now_ms - began_ms)
    assert waits == [NO_SHARE_MS * 2**n for n in range(6)] + [MAX_NO_SHARE_MS]
    running.refused("a", now_ms)
    running.ran("a")
    assert "a" not in running.hosts_without_share(now_ms)
    running.refused("a", now_ms)
    assert "a" not in running.hosts_without_share(now_ms + NO_SHARE_MS)
