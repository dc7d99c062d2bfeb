"""Growth: what could not be read is no figure, and no goal is met by it."""

from loadtest.bench.results import Results
from loadtest.growth import backlog, report

LITTLE, MUCH = backlog.COMPARISON.little, backlog.COMPARISON.much


def _memory_line(little: int | None, much: int | None) -> tuple[str, ...]:
    results = Results()
    report.add_memory(results, "memory", LITTLE, little)
    report.add_memory(results, "memory", MUCH, much)
    told = [line for line in report.lines(backlog.COMPARISON, results) if line[1] == "MiB"]
    assert len(results.notes) == (little is None) + (much is None)
    return told[0]


def test_memory_that_could_not_be_read_meets_no_goal() -> None:
    """Of either fleet: shown as not measured, with a note."""
    mib = report.MIB
    assert _memory_line(100 * mib, 200 * mib)[-1] == "met"
    assert _memory_line(100 * mib, 900 * mib)[-1] == "missed"
    for little, much in ((100 * mib, None), (None, 200 * mib), (None, None)):
        assert _memory_line(little, much)[-1] == "not measured"
