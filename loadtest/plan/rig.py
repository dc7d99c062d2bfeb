"""The fleet that a plan measures: one of its own, made anew where it has to be, or one that runs already."""

import contextlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.bench.evenflow_fleet import EvenflowFleet
from loadtest.plan.site import Site


class PlanError(Exception):
    """The plan cannot be measured; the message says what to do."""


@dataclass(frozen=True, slots=True)
class FleetAsked:
    """A fleet to start: processes by role, and settings as `evenflow up --set` takes them. shards None: its default."""

    queues: int = 1
    pollers: int = 1
    runtimes: int = 1
    shards: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def arguments(self) -> list[str]:
        """For `evenflow up`."""
        found = ["--queues", str(self.queues), "--pollers", str(self.pollers), "--runtimes", str(self.runtimes)]
        if self.shards is not None:
            found += ["--shards", str(self.shards)]
        for key, value in self.settings.items():
            found += ["--set", f"{key}={value}"]
        return found


class Rig:
    """`start`, use `site`, `renew` it where a backlog would falsify the next run, `stop`."""

    def __init__(self, asked: FleetAsked, data: Path | None = None) -> None:
        """data: of a fleet that runs already, which is left as it is; None: one of our own."""
        self.asked = asked
        self._data = data
        self._site: Site | None = None
        self._fleet: EvenflowFleet | None = None
        self._folder: Path | None = None

    @property
    def site(self) -> Site:
        """Between start and stop."""
        assert self._site is not None
        return self._site

    async def start(self) -> None:
        """PlanError: it does not get ready. CliError: no fleet runs on `data`."""
        if self._data is not None:
            self._site = Site(self._data)
            return
        self._folder = Path(tempfile.mkdtemp(prefix="evenflow-plan-", dir="/tmp"))
        self._fleet = EvenflowFleet(self._folder, 0, self.asked.arguments())
        try:
            await self._fleet.start()
        except (RuntimeError, TimeoutError) as e:
            raise PlanError(f"the fleet to be measured does not start: {e or 'not ready in time'}") from e
        self._site = Site(self._fleet.data)

    async def renew(self, why: str) -> None:
        """Another fleet like it, empty. PlanError: this one is not ours to end."""
        if self._data is not None:
            raise PlanError(f"{why}: let the fleet of {self._data} drain, or measure one of the plan's own")
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        """End what was started; a fleet that ran already runs on. Safe to call twice."""
        if self._site is not None:
            await self._site.close()
            self._site = None
        if self._fleet is not None:
            await self._fleet.stop()
            self._fleet = None
        if self._folder is not None:
            with contextlib.suppress(OSError):
                shutil.rmtree(self._folder)
            self._folder = None
