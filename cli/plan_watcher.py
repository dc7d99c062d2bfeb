"""How far a plan is: a bar with the time left on a terminal, a line for each thing that ended anywhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from cli.output import span_of_ms


class Bar:
    """On stderr; what a plan tells of itself goes through it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=1.0, left=0.0, at=time.monotonic())
        self._began = time.monotonic()

    def doing(self, what: str, seconds_left: float) -> None:
        """See loadtest.plan.measure.Watcher."""
        now = time.monotonic()
        part = (now - self._began) / max(now - self._began + seconds_left, 1e-9)
        self._progress.update(self._task, description=what, completed=part, left=seconds_left, at=now)

    def done(self, words: str) -> None:
        """See loadtest.plan.measure.Watcher."""
        self._progress.console.print(Text(words))


class _Left(ProgressColumn):
    def render(self, task: Task) -> Text:
        """About how long it still takes."""
        left = max(0.0, task.fields["left"] - (time.monotonic() - task.fields["at"]))
        return Text(f"about {span_of_ms(1_000 * round(left))} left" if left >= 1 else "nearly done")


@contextmanager
def bar() -> Iterator[Bar]:
    """Shown inside `with`."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), _Left())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(progress)
