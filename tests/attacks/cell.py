"""One attack in one column: deploys the program, invokes it, and looks at what it did to others."""

import json
from typing import Any

from evenflow.common.v1 import event_pb2

from tests.attacks.aftermath import Aftermath, Before, shared_files
from tests.attacks.finding import Finding, Findings, describe, of_outcome
from tests.attacks.host import ATTACKER, AttackHost, Key
from tests.attacks.package import package, sources
from tests.attacks.place import MEMORY_MB, Place

# Enough for whatever is being exhausted: an attack that is merely slow has not been stopped.
BOMB_MS = 120_000
KEY: Key = (ATTACKER, "attack")
GRANTS = [{"bucket": "shared", "writable": True}, {"bucket": "reading"}]


class NotCarriedOutError(Exception):
    """The attack's program failed before it attacked: a fault of the suite, and no verdict."""


class Cell:
    """What a drive works with."""

    def __init__(self, host: AttackHost, place: Place, program: str, variants: tuple[str, ...]) -> None:
        self.host = host
        self.place = place
        self.program = program
        self.variants = variants
        self.aftermath = Aftermath(host, place.mark)
        self._before: Before | None = None

    async def begin(self) -> None:
        """Note how it is before."""
        self._before = await self.aftermath.before()

    def deploy(self, key: Key = KEY, *, code_version: str = "1", program: str = "", **version: Any) -> None:
        """The program as a function; `version` are fields of its configuration."""
        fields = {
            "handler": f"programs.{program or self.program}.handler",
            "memory_mb": MEMORY_MB,
            "buckets": GRANTS,
            "environment": {"OWN_SECRET": self.place.own_secret},
            **version,
        }
        self.host.functions.put(key, package(sources(self.place.mark, version=code_version)), **fields)

    async def ask(self, event: Any, key: Key = KEY, **fields: Any) -> event_pb2.Outcome:
        """Invoke; the event is what an attacker knows, and `event` on top."""
        return await self.host.ask(key, self.place.event(**event), **fields)

    async def answer(self, event: Any, key: Key = KEY) -> Any:
        """What the program returned. NotCarriedOutError: it did not get so far."""
        outcome = await self.ask(event, key)
        if outcome.status != event_pb2.OUTCOME_STATUS_SUCCEEDED:
            raise NotCarriedOutError(f"{event}: {describe(outcome)} {outcome.response_payload[-300:]!r}")
        return json.loads(outcome.response_payload)

    async def clear(self) -> list[str]:
        """End what was deployed; what is left of it then."""
        await self.host.clear()
        assert self._before is not None
        left = await self.aftermath.left(self._before)
        await self.place.revive()
        return left

    async def all_at_once(self) -> Findings:
        """Every variant in one invocation; one by one if that invocation dies of it."""
        self.deploy()
        found = of_outcome(await self.ask({"variants": list(self.variants)}))
        if isinstance(found, Finding):
            await self.clear()
            return await self.one_by_one()
        return found

    async def one_by_one(self) -> Findings:
        """Each variant in a sandbox of its own, which ends after it."""
        findings: Findings = {}
        for variant in self.variants:
            self.deploy(timeout_ms=BOMB_MS)
            found = of_outcome(await self.ask({"variants": [variant]}))
            findings[variant] = found if isinstance(found, Finding) else found[variant]
            if left := await self.clear():
                findings[variant].obtained += [f"left behind: {one}" for one in left]
        return findings

    def shared_files(self) -> list[str]:
        """Files outside of /tmp that the attack made and the machine sees; removed."""
        return shared_files(self.place.marker)
