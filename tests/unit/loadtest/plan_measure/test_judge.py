"""What a run says of its rate, and the whole search on a simulated fleet whose limit is known."""

from dataclasses import replace

import pytest

from loadtest.plan.judge import failed_bounds, unjudged, verdict
from loadtest.plan.measured import Objective, Run, Sample
from loadtest.plan.search import Request, Scope, Search, Verdict
from tests.unit.loadtest.plan.known_fleet import KnownFleet

FLEET = KnownFleet()
OBJECTIVE = FLEET.objective


def judged(run: Run, objective: Objective = OBJECTIVE) -> tuple[tuple[str, ...], Verdict]:
    """Words and verdict."""
    failed = failed_bounds(run, objective, FLEET.spec)
    return failed, verdict(replace(run, failed=failed), objective, FLEET.spec)


def test_half_load_holds() -> None:
    """Nothing to say."""
    assert judged(FLEET.run("search", 200, 1)) == ((), Verdict.HELD)


def test_twice_the_capacity_is_an_overload_that_needs_no_second_run() -> None:
    """The words have the figures: what was seen and what was allowed."""
    failed, said = judged(FLEET.run("search", 800, 1))
    assert said is Verdict.OVERLOADED
    assert failed[0].startswith("p99 to handler start ") and failed[0].endswith(" ms, 100 ms allowed")
    assert failed[1].startswith("backlog grew by ")


def test_every_bound_is_told_in_words() -> None:
    """Accept, and errors with and without an allowance."""
    run = FLEET.run("search", 200, 1)
    failed, said = judged(run, replace(OBJECTIVE, accept_p99_ms=1.0))
    assert said is Verdict.FAILED and failed[0].endswith(", 1 ms allowed")
    wrong = replace(run, result=replace(run.result, refused={"503": run.result.sent // 100}))
    assert judged(wrong)[0] == ("errors 0.98 % (35 refused), 0.1 % allowed",)
    assert judged(wrong, replace(OBJECTIVE, error_part=0.0))[0] == ("errors 0.98 % (35 refused), none are allowed",)


def test_a_void_run_fails_nothing_and_says_whether_drivers_would_help() -> None:
    """Late sends of a driver that had time left are nothing that another driver would change."""
    run = FLEET.run("search", 800, 1)
    void = replace(run, result=replace(run.result, void=("late",), generator_cpu=0.2))
    assert judged(void) == ((), Verdict.VOID)
    full = replace(void, result=replace(void.result, generator_cpu=0.9))
    assert judged(full) == ((), Verdict.FULL)


def test_a_fleet_that_starts_no_handler_has_failed() -> None:
    """No p99 is no good p99."""
    run = FLEET.run("search", 200, 1)
    silent = replace(run, result=replace(run.result, start=None))
    assert judged(silent) == (("no handler started",), Verdict.FAILED)
    refused = replace(run.result, accept=None, start=None, accepted=0, refused={"503": run.result.sent})
    assert "nothing was accepted" in judged(replace(run, result=refused))[0]


@pytest.mark.parametrize(("depths", "holds"), [([18, 22, 17, 24, 21, 25], True), ([20, 60, 100, 140, 180, 220], False)])
def test_a_depth_that_only_varies_is_no_backlog(depths: list[int], holds: bool) -> None:
    """Slow handlers at a low rate: 20 events are always under way, and 2 % of what arrives is less than one event."""
    run = FLEET.run("search", 20, 1)
    few = replace(run.result, accepted=40, seconds=2.0)
    looks = tuple(Sample(2.0 + 0.4 * n, (depth,), 0, 0, {}, 0) for n, depth in enumerate(depths))
    failed, _ = judged(replace(run, result=few, samples=looks))
    assert (failed == ()) is holds


def test_the_search_finds_the_limit_of_a_simulated_fleet() -> None:
    """8 slots of 20 ms carry 400/s at most; with p99 to start within 100 ms the limit is a little below."""
    search = Search(Scope(start_per_second=100, callers=()))
    while (request := search.next()) is not None:
        search.told(judged(_made(request))[1])
    assert 300 < search.best_per_second < 400
    assert search.notes == []


def _made(request: Request) -> Run:
    return FLEET.run(request.purpose, request.per_second, int(request.seed.split()[1]))


def test_drops_of_a_punctual_generator_are_the_fleets_failure() -> None:
    """It had as many under way as it may, since the fleet did not answer: no void, and no word of the generator."""
    run = FLEET.run("search", 200, 1)
    dropped = replace(run.result, dropped=400, sent=run.result.sent - 400)
    failed, said = judged(replace(run, result=dropped))
    assert said is Verdict.FAILED
    assert failed[0].startswith("errors ") and "400 dropped, as too many had no answer" in failed[0]


@pytest.mark.parametrize(("field", "words"), [("not_started", "40 unstarted"), ("handler_failures", "40 failed")])
def test_events_that_never_began_or_failed_break_the_objective(field: str, words: str) -> None:
    run = FLEET.run("search", 200, 1)
    wrong = replace(run.result, **{field: 40})  # type: ignore[arg-type]
    failed, said = judged(replace(run, result=wrong))
    assert said is Verdict.FAILED and words in failed[0]


def test_a_run_with_too_few_looks_is_not_judged() -> None:
    """Its backlog is not known: neither held nor failed."""
    run = FLEET.run("search", 200, 1)
    assert unjudged(run, FLEET.spec) == ()
    blind = replace(run, samples=run.samples[-2:])
    (why,) = unjudged(blind, FLEET.spec)
    assert "(2, at least 3 are needed)" in why
    told = replace(blind, result=replace(blind.result, void=(why,)))
    assert judged(told) == ((), Verdict.VOID)
