"""Somebody else's function, invoked all the time: its errors and latency tell whether an attack reaches others."""

import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field

from evenflow.common.v1 import event_pb2

from tests.attacks.host import NEIGHBOUR, AttackHost, HostLostError
from tests.attacks.package import package, sources
from tests.attacks.place import Place

KEY = (NEIGHBOUR, "neighbour")
PAUSE_SECONDS = 0.01
# A busy machine is slow, too: beyond this a neighbour is held up, not merely slower.
P99_BOUND_MS = 2_000.0
MAX_ERRORS = 5


@dataclass(slots=True)
class Record:
    """What happened to it during one attack."""

    latencies_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, object]:
        """For the report."""
        ordered = sorted(self.latencies_ms)
        return {
            "invocations": len(ordered),
            "errors": len(self.errors),
            "p50_ms": round(statistics.median(ordered), 2) if ordered else None,
            "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 2) if ordered else None,
        }

    @property
    def complaints(self) -> list[str]:
        """Why it noticed, if it did."""
        found = [f"{len(self.errors)} errors: {self.errors[0]}"] if self.errors else []
        ordered = sorted(self.latencies_ms)
        if ordered and ordered[int((len(ordered) - 1) * 0.99)] > P99_BOUND_MS:
            found.append(f"p99 {ordered[-1]:.0f} ms")
        return found


class Neighbour:
    """Deployed, warm, invoked until `stop`."""

    def __init__(self, host: AttackHost, place: Place) -> None:
        self._host = host
        self._place = place
        self._record = Record()
        self._task: asyncio.Task[None] | None = None
        self._nonce = 0
        self.served = 0

    async def start(self) -> None:
        """Deploy it and see it answer; its secrets are where attackers are told."""
        place = self._place
        code = package(sources(place.mark, place.neighbour_code))
        environment = {"NEIGHBOUR_SECRET": place.neighbour_secret, "NEIGHBOUR_FILE_SECRET": place.neighbour_file}
        self._host.functions.put(KEY, code, handler="programs.neighbour.handler", environment=environment)
        await self._once()
        if self._record.errors:
            raise HostLostError(f"the neighbour does not run: {self._record.errors}")
        (sandbox,) = [one for one in await self._host.sandboxes() if one.tenant_id == NEIGHBOUR]
        place.pids["neighbour"] = sandbox.pid
        self._find_files(sandbox.pid)
        self._task = asyncio.create_task(self._run(), name="neighbour")

    def _find_files(self, pid: int) -> None:
        packages = self._host.packages_folder()
        self._place.packages = str(packages)
        for path in packages.glob("*/programs/secret.py"):
            if self._place.neighbour_code in path.read_text():
                self._place.paths["neighbour's code"] = str(path)
        tmp = list(packages.parent.glob("tmp/**/secret.txt"))
        self._place.paths["neighbour's /tmp"] = str(tmp[0]) if tmp else f"/proc/{pid}/root/tmp/secret.txt"

    def take(self) -> Record:
        """What was recorded since the last call."""
        record, self._record = self._record, Record()
        return record

    async def stop(self) -> None:
        """Let the last one end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._once()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _once(self) -> None:
        self._nonce += 1
        began = time.perf_counter()
        try:
            outcome = await self._host.ask(KEY, {"nonce": self._nonce})
        except HostLostError as e:
            return self._complain(str(e))
        self.served += 1
        self._record.latencies_ms.append((time.perf_counter() - began) * 1_000)
        if outcome.status != event_pb2.OUTCOME_STATUS_SUCCEEDED:
            self._complain(f"{outcome.error_type} {outcome.error_message} {outcome.refusal.message}".strip())
        elif json.loads(outcome.response_payload) != {"nonce": self._nonce, "whole": True}:
            self._complain(f"another answer: {outcome.response_payload[:200]!r}")

    def _complain(self, text: str) -> None:
        if len(self._record.errors) < MAX_ERRORS:
            self._record.errors.append(text)
