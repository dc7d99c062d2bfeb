"""What the `evenflow simulate` commands share: their progress bar, what they write, and how they fail."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cli.failures import EXIT_USAGE, CliError
from cli.load_packages import MISSING_PACKAGES
from cli.output import print_line


@contextmanager
def failures() -> Iterator[None]:
    """Bad input, missing libraries and files that cannot be written become one line and an exit code."""
    try:
        yield
    except ImportError as e:
        raise CliError(f"{MISSING_PACKAGES} ({e})") from None
    except ValueError as e:
        raise CliError(str(e), EXIT_USAGE) from None
    except OSError as e:
        raise CliError(f"{e.filename or 'a file'}: {e.strerror or e}") from None


@contextmanager
def progress(runs: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr with the time that is left; call what it gives once a run."""
    columns = (
        TextColumn("simulating"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=runs)
        yield lambda: bar.advance(task)


def check_paths(json_path: Path | None, plot_path: Path | None) -> None:
    """Before the work and not after it: whether what is asked for can be written. CliError: it cannot."""
    for path in (json_path, plot_path):
        if path is not None and not path.absolute().parent.is_dir():
            raise CliError(f"{path}: there is no folder {path.absolute().parent}", EXIT_USAGE)
    if plot_path is not None:
        from loadtest.simulate import plots

        plots.check_path(plot_path)


def write_json(path: Path | None, command: str, settings: dict[str, Any], rows: Sequence[Any]) -> None:
    """The settings and one object a row; nothing without a path."""
    if path is not None:
        told = {"command": command, "settings": settings, "rows": [dataclasses.asdict(row) for row in rows]}
        path.write_text(json.dumps(told, indent=1) + "\n")


def tell_written(*paths: Path | None) -> None:
    """A line for each file that was asked for."""
    for path in paths:
        if path is not None:
            print_line(f"written: {path}")


def policy_names(told: Sequence[str]) -> tuple[str, ...]:
    """As the simulator has them: best_of_two for best-of-two."""
    return tuple(name.strip().lower().replace("-", "_") for name in told)


def figure(value: float | None) -> str:
    """Three digits or so; a dash for none."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"


def percent(part: float) -> str:
    """A part of 1, small ones with more digits; a dash for none."""
    if math.isnan(part):
        return "-"
    return f"{part:.2%}" if part < 0.1 else f"{part:.1%}"
