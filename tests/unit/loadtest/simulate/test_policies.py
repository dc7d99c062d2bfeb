"""What the static comparison tells: seeded, and as the policies are known to be."""

import pytest

from loadtest.simulate import choices, placement, policies, traffic, views
from loadtest.simulate.parallel import run_all
from loadtest.simulate.policies import PolicyOutcome, compare


def by_policy(found: list[PolicyOutcome], age: int) -> dict[str, float]:
    return {one.policy: one.max_minus_mean for one in found if one.stale_events_a_shard == age}


def test_the_same_seeds_are_the_same_figures_also_in_other_processes() -> None:
    """In this process and in two others."""
    names = ("hash", "best_of_two", "shuffle_quota")
    one = [policies.Scenario(name, 20, 200, 3.55, 50, 2, seed) for name in names for seed in (0, 1)]
    here = run_all(policies.simulate, one, processes=1)
    there = run_all(policies.simulate, one, processes=2)
    assert here == there
    assert len(set(here)) > len(names)


def test_policies_are_ordered_as_they_should_be() -> None:
    """Hash is worst, quotas mend shuffle shards, two choices beat one, and stale depths cost."""
    found = compare(shards=20, tenants=200, events_a_shard=50, stale_depths=(0, 5), seeds=3)
    fresh, stale = by_policy(found, 0), by_policy(found, 5)
    assert fresh["hash"] > fresh["shuffle_two"] > fresh["random"] > fresh["shuffle_quota"] >= fresh["best_of_two"]
    assert fresh["best_of_two"] >= fresh["best_of_four"]
    assert set(stale) == set(fresh) - choices.BLIND
    assert stale["best_of_four"] > stale["best_of_two"] > fresh["best_of_two"]
    assert len(found) * 3 == policies.runs_of((0, 5), 3)


def test_every_event_lands_and_the_reported_depths_lag_by_the_age() -> None:
    """A view that is delayed by k events lacks just the last k."""
    load = traffic.make(1, 400, tenants=50)
    for kind, missing in (("delayed", 30), ("board", 400 % 30)):
        view = views.make(kind, 8, 30)
        depths = placement.place("best_of_two", 8, load, view, [iter([0.1, 0.6, 0.3, 0.9] * 300).__next__])
        assert sum(depths) == 400
        assert sum(view.known[0].estimates) == 400 - missing


def test_own_sends_are_known_at_once() -> None:
    """One frontend that counts what it sent is never stale, however late the reports are."""
    load = traffic.make(3, 800, tenants=50)
    found = []
    for stale_events in (0, 64):
        draw = iter([0.1, 0.6, 0.3, 0.9, 0.45] * 400).__next__
        found.append(placement.place("best_of_two", 8, load, views.OwnSends(8, 1, stale_events), [draw]))
    assert found[0] == found[1]


def test_bad_input_is_refused_with_its_bound() -> None:
    """Before any process is started."""
    with pytest.raises(ValueError, match="1 to 10,000"):
        compare(10_001, 10)
    with pytest.raises(ValueError, match="no policy"):
        compare(4, 10, policies=("best",), seeds=1)
    with pytest.raises(ValueError, match="one seed"):
        compare(4, 10, seeds=0)
    with pytest.raises(ValueError, match="no kind"):
        compare(4, 10, kind="late", seeds=1)
    with pytest.raises(ValueError, match="events a run"):
        compare(10_000, 10, events_a_shard=2_000)
