"""Which fleets put a prediction to the test, and what their runs say of it."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.plan.confirm import MAX_VOID_IN_A_ROW, PREDICTED, Confirming, Trial, announced, summary, trials, unlike
from loadtest.plan.findings import conclude
from loadtest.plan.measured import Run
from loadtest.plan.rig import FleetAsked, PlanError
from tests.unit.loadtest.plan.known_fleet import KnownFleet

FLEET = KnownFleet()
MEASURED = FLEET.measured([50, 100, 200, 300, 380, 400, 450], repeats_at=380, callers=())
FOUND = conclude(MEASURED)


def test_the_predicted_fleet_and_one_fewer_of_what_is_full_first() -> None:
    """8 slots of 20 ms at 70 % carry 280/s a host: 500/s need two, and one is not enough."""
    predicted, fewer = trials(MEASURED, FOUND, 500.0)
    assert (predicted.name, predicted.replicas["runtime"]) == (PREDICTED, 2)
    assert fewer.name == "one runtime fewer"
    assert dict(fewer.replicas) == {**predicted.replicas, "runtime": 1}


def test_where_there_is_one_of_each_nothing_can_be_fewer() -> None:
    """The predicted fleet alone is tried, and the summary says so."""
    (only,) = trials(MEASURED, FOUND, 60.0)
    assert set(only.replicas.values()) == {1}
    run = replace(FLEET.run("confirm", 60, 3), replicas=only.replicas)
    assert list(summary([only], [run]).lines[-2:]) == [
        "one replica fewer was not tried: there is one of each",
        "the prediction held",
    ]


@pytest.mark.parametrize(
    ("per_second", "words"),
    [
        (380.0, "was made from"),
        (380.0001, "was made from"),
        (0.0, "above 0"),
        (3_000.0, "at a lower rate"),
        (1e12, "at most"),
    ],
)
def test_rates_that_confirm_nothing_are_refused(per_second: float, words: str) -> None:
    """One of the fit, none at all, one for more processes than are tried, one beyond any bound."""
    with pytest.raises(PlanError, match=words):
        trials(MEASURED, FOUND, per_second)


def test_a_plan_that_predicts_nothing_is_refused() -> None:
    """Too few runs: there is no demand to predict from."""
    poor = replace(MEASURED, runs=MEASURED.runs[:1])
    with pytest.raises(PlanError, match="predicts nothing"):
        trials(poor, conclude(poor), 500.0)


@pytest.mark.parametrize(
    ("predicted_rate", "fewer_rate", "words"),
    [
        (200, 800, "the prediction held"),
        (800, 800, "the prediction did not hold: the fleet that it asks for was not enough"),
        (200, 200, "the prediction did not hold: one runtime fewer was enough, too (it plans each to 70 % use"),
    ],
)
def test_a_prediction_held_when_it_was_enough_and_one_fewer_was_not(
    predicted_rate: float, fewer_rate: float, words: str
) -> None:
    """Two of three runs decide; rates stand for fleets that hold and that do not."""
    enough, fewer = Trial(PREDICTED, {"runtime": 2}), Trial("one runtime fewer", {"runtime": 1})
    runs = [replace(FLEET.run("confirm", predicted_rate, n), replicas={"runtime": 2}) for n in range(3)]
    runs += [replace(FLEET.run("confirm", fewer_rate, n), replicas={"runtime": 1}) for n in range(3)]
    found = summary([enough, fewer], runs)
    assert found.lines[-1].startswith(words) and found.is_known
    assert len(found.lines) == 3 and "planned to 70 % use" in found.lines[0]


def test_void_runs_confirm_nothing() -> None:
    """Neither for nor against."""
    trial = Trial(PREDICTED, {"runtime": 2})
    run = FLEET.run("confirm", 200, 1)
    void = replace(run, replicas={"runtime": 2}, result=replace(run.result, void=("late",)))
    found = summary([trial], [void])
    assert "nothing is shown" in found.lines[-1] and not found.is_known
    assert "0 of 0 runs that count held the objective; 1 more were void" in found.lines[0]


def test_what_is_tried_is_told_before() -> None:
    told = announced(trials(MEASURED, FOUND, 500.0), 500.0)
    assert told.startswith("at 500/s the plan asks for ") and "used to at most 70 %" in told
    assert told.endswith("3 runs of each fleet (predicted and one runtime fewer), 6 in all")


class Heard:
    """Keeps what a Watcher is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def doing(self, what: str, seconds_left: float) -> None:
        """Not kept."""

    def done(self, words: str) -> None:
        """Kept."""
        self.lines.append(words)


class AnyRig:
    """Starts nothing: the runs are replaced, too."""

    def __init__(self, asked: FleetAsked) -> None:
        self.replicas = {"runtime": asked.runtimes}
        self.site = self

    async def start(self) -> None:
        """Nothing."""

    async def stop(self) -> None:
        """Nothing."""


def test_a_fleet_whose_runs_are_void_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three in a row are enough to know that the next one will be."""
    void = FLEET.run("confirm", 60, 1)
    void = replace(void, result=replace(void.result, void=("late",)))

    class VoidRunner:
        def __init__(self, *_: object) -> None:
            pass

        async def prepare(self) -> None:
            """Nothing."""

        async def run(self, _: object, replicas: Mapping[str, int]) -> Run:
            """Void."""
            return replace(void, replicas=replicas)

    monkeypatch.setattr("loadtest.plan.confirm.Rig", AnyRig)
    monkeypatch.setattr("loadtest.plan.confirm.Runner", VoidRunner)
    heard = Heard()
    confirming = Confirming(MEASURED, FOUND, 500.0, tmp_path, heard)
    asyncio.run(confirming.run())
    assert len(confirming.runs) == MAX_VOID_IN_A_ROW
    assert heard.lines[-1] == "predicted: given up after 3 void runs in a row"
    found = summary(confirming.trials, confirming.runs)
    assert found.lines[1] == "one runtime fewer: not tried" and not found.is_known


def test_a_fleet_is_asked_for_as_evenflow_up_takes_it() -> None:
    """Every option and setting."""
    asked = FleetAsked(1, 2, 3, 4, {"a.b": "1"})
    assert asked.arguments() == [
        *("--queues", "1", "--pollers", "2", "--runtimes", "3", "--shards", "4", "--set", "a.b=1")
    ]


def test_another_machine_or_commit_is_told() -> None:
    """The time of day is no other machine."""
    planned: dict[str, str | int] = {"cpu": "one", "cores": 2, "commit": "abc", "time": "then"}
    assert unlike(planned, {**planned, "time": "now"}) == []
    told = unlike(planned, {**planned, "commit": "def", "cores": 4})
    assert told == ["not as planned: cores was 2, here it is 4", "not as planned: commit was abc, here it is def"]
