"""The ledger of usage on disk: one file a UTC day, replaced as a whole; a killed host loses its last seconds."""

import asyncio
import contextlib
import datetime
import json
import logging
import os
from pathlib import Path
from typing import Any

from services.runtime.usage import FOLDED_DAY, UsageLedger, rows_from

SAVE_SECONDS = 5.0
FORMAT = 1
MAX_FILE_BYTES = 64 * 1024 * 1024
_FOLDED = "before"
_EPOCH = datetime.date(1970, 1, 1)
log = logging.getLogger(__name__)


def day_text(day: int) -> str:
    """2026-11-25; empty for what was folded."""
    return "" if day == FOLDED_DAY else (_EPOCH + datetime.timedelta(days=day)).isoformat()


def day_number(text: str) -> int:
    """Days since the epoch. ValueError: no date."""
    return (datetime.date.fromisoformat(text) - _EPOCH).days


class UsageFiles:
    """Reads the ledger at start, saves what changed every few seconds and at the end."""

    def __init__(self, ledger: UsageLedger, folder: Path) -> None:
        self._ledger = ledger
        self._folder = folder
        self._saving: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()

    def load(self) -> None:
        """Take up what was saved. A file that cannot be read is set aside and named: its day is lost, not the host."""
        self._folder.mkdir(parents=True, exist_ok=True)
        folded = self._read(self._folder / f"{_FOLDED}.json")
        if folded is not None:
            self._ledger.put(FOLDED_DAY, folded["rows"])
            self._ledger.folded_through = folded["through"]
        for path in sorted(self._folder.glob("????-??-??.json")):
            try:
                day = day_number(path.stem)
            except ValueError:
                continue
            if day <= self._ledger.folded_through:
                # The host ended between the fold and the removal: it is counted already.
                path.unlink(missing_ok=True)
                continue
            read = self._read(path)
            if read is not None:
                self._ledger.put(day, read["rows"])

    def start(self) -> None:
        """Save from now on."""
        self._saving = asyncio.create_task(self._save_again_and_again(), name="save usage")

    async def stop(self) -> None:
        """Save the rest."""
        self._stopped.set()
        if self._saving is not None:
            await self._saving
            await self.save()

    async def save(self) -> None:
        """Write the days that changed; what cannot be written is tried again with the next ones."""
        days, self._ledger.changed = self._ledger.changed, set()
        # What was folded comes first: once its file says so, the days in it do not count any more.
        for day in sorted(days):
            rows = [[*key, values] for key, values in self._ledger.of_day(day)]
            content: dict[str, Any] = {"format": FORMAT, "rows": rows}
            if day == FOLDED_DAY:
                content["through"] = self._ledger.folded_through
            try:
                await asyncio.to_thread(self._write, day, content)
            except OSError as e:
                log.error("usage of %s cannot be saved: %s", day_text(day) or "earlier days", e)
                self._ledger.changed.add(day)

    async def _save_again_and_again(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), SAVE_SECONDS)
                return
            await self.save()

    def _write(self, day: int, content: dict[str, Any]) -> None:
        path = self._folder / f"{day_text(day) or _FOLDED}.json"
        beside = path.with_suffix(".new")
        with open(beside, "w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder_fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder_fd)
        finally:
            os.close(folder_fd)
        if day == FOLDED_DAY:
            for old in self._folder.glob("????-??-??.json"):
                if old.stem <= day_text(content["through"]):
                    old.unlink(missing_ok=True)

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
            content = json.loads(path.read_bytes())
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']!r} is not known")
            rows = rows_from((str(tenant), str(name), values) for tenant, name, values in content["rows"])
            return {"rows": rows, "through": int(content.get("through", 0))}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as e:
            aside = path.with_suffix(".damaged")
            log.error("usage in %s cannot be read and is set aside as %s: %s", path, aside.name, e)
            path.replace(aside)
            return None
