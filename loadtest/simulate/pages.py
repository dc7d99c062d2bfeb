"""Writes docs/simulation: the page, its figures and the data behind them."""

from pathlib import Path

from loadtest.simulate import plots, report
from loadtest.simulate.checks import PUBLISHED_STALE
from loadtest.simulate.study import FLOOD_WINDOWS, Study, dump


def save(study: Study, folder: Path) -> None:
    """All files of the page, from this study alone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.json").write_text(dump(study))
    (folder / "README.md").write_text(report.write(study))
    plots.spread(study.cells, folder / report.SPREAD)
    plots.responses(
        study.curves, folder / report.RESPONSES, [(age, value) for (_, age), value in PUBLISHED_STALE.items()]
    )
    whole = [one for one in study.floods if (one.begun, one.ended) == FLOOD_WINDOWS[0]]
    plots.isolation(whole, folder / report.ISOLATION)
