"""Who runs each event source: one poller at a time, by a lease with an epoch. Times are handed in.

A new owner is named only when the old one's lease has run out by control's own count (its length and a grace after it
was last sent), or its incarnation is known to have ended. A submission under an older epoch is stale in any case.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.control.database import StoredOwner

# The owner counts from the receipt: what a lease may need on its way.
GRACE_MS = 1_000


@dataclass(slots=True)
class Ownership:
    """One source. `owner`: (node id, incarnation). `ends_ms`: when the lease that was sent last has surely run out."""

    epoch: int
    owner: tuple[str, str]
    ends_ms: float
    renew_ms: float
    is_revoked: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """The owner is to hear of its lease."""

    source_id: str
    owner: tuple[str, str]
    epoch: int


@dataclass(slots=True)
class Plan:
    """What is to happen: owners to store first, then leases and revocations to send."""

    owners: list[StoredOwner]
    grants: list[Grant]
    revocations: list[Grant]
    dropped_ids: list[str]


class SourceBook:
    """All sources that were ever given to somebody and still exist."""

    def __init__(
        self,
        stored: Iterable[StoredOwner],
        now_ms: float,
        lease_ms: int,
        progress: Mapping[str, int] | None = None,
    ) -> None:
        """`progress`: by source, until when its fires are done, see SourceProgress."""
        self._lease_ms = lease_ms
        self.progress = dict(progress or {})
        # What is new in it since `progress_to_store`.
        self._unstored: set[str] = set()
        # Leases of the last run of control may have been sent until its last moment.
        self.entries: dict[str, Ownership] = {
            s.source_id: Ownership(s.epoch, (s.node_id, s.incarnation), now_ms + lease_ms + GRACE_MS, now_ms)
            for s in stored
        }

    def hear_from(self, owner: tuple[str, str], now_ms: float) -> None:
        """A poller joined (again): tell it at once what it owns."""
        for entry in self.entries.values():
            if entry.owner == owner:
                entry.renew_ms = now_ms

    def note_progress(self, owner: tuple[str, str], source_id: str, epoch: int, done_until_ms: int) -> None:
        """Its owner says so; one that is it no more is passed over."""
        entry = self.entries.get(source_id)
        if entry is not None and entry.owner == owner and entry.epoch == epoch:
            self.progress[source_id] = done_until_ms
            self._unstored.add(source_id)

    def progress_to_store(self) -> dict[str, int]:
        """What came since the last time; give it back to `store_again` when it could not be stored."""
        found = {source_id: self.progress[source_id] for source_id in self._unstored if source_id in self.progress}
        self._unstored.clear()
        return found

    def store_again(self, source_ids: Iterable[str]) -> None:
        """These were not stored."""
        self._unstored.update(source_ids)

    def plan(
        self,
        source_ids: Iterable[str],
        pollers: Mapping[tuple[str, str], bool],
        ended: Iterable[tuple[str, str]],
        now_ms: float,
    ) -> Plan:
        """What is due. pollers: those in touch -> may run sources (a leaving one may not); ended: owners surely over.

        Nothing is changed: `take` does that once the owners are stored.
        """
        wanted, over = set(source_ids), set(ended)
        plan = Plan([], [], [], [])
        load = {poller: 0 for poller, may_run in pollers.items() if may_run}
        moving = 0
        free: list[str] = []
        for source_id, entry in self.entries.items():
            if source_id not in wanted:
                plan.dropped_ids.append(source_id)
                plan.revocations.append(Grant(source_id, entry.owner, entry.epoch))
            elif entry.owner in over or now_ms >= entry.ends_ms:
                free.append(source_id)
            elif entry.is_revoked:
                moving += 1
            elif entry.owner in load:
                load[entry.owner] += 1
                if now_ms >= entry.renew_ms:
                    plan.grants.append(Grant(source_id, entry.owner, entry.epoch))
            elif entry.owner in pollers:
                plan.revocations.append(Grant(source_id, entry.owner, entry.epoch))
        if load:
            self._give([*free, *sorted(wanted - self.entries.keys())], load, plan)
            self._balance(load, moving, plan)
        return plan

    def take(self, plan: Plan, now_ms: float) -> None:
        """The plan was stored and is being sent now."""
        for source_id in plan.dropped_ids:
            del self.entries[source_id]
            self.progress.pop(source_id, None)
        for owner in plan.owners:
            self.entries[owner.source_id] = Ownership(owner.epoch, (owner.node_id, owner.incarnation), 0.0, 0.0)
        for grant in plan.grants:
            entry = self.entries[grant.source_id]
            entry.ends_ms = now_ms + self._lease_ms + GRACE_MS
            entry.renew_ms = now_ms + self._lease_ms / 3
        for grant in plan.revocations:
            if grant.source_id in self.entries and self.entries[grant.source_id].owner == grant.owner:
                self.entries[grant.source_id].is_revoked = True

    def _give(self, free: list[str], load: dict[tuple[str, str], int], plan: Plan) -> None:
        for source_id in free:
            before = self.entries.get(source_id)
            owner = min(load, key=lambda one: (load[one], one))
            load[owner] += 1
            epoch = before.epoch + 1 if before is not None else 1
            plan.owners.append(StoredOwner(source_id, epoch, *owner))
            plan.grants.append(Grant(source_id, owner, epoch))
            if before is not None and before.owner != owner:
                plan.revocations.append(Grant(source_id, before.owner, before.epoch))

    def _balance(self, load: dict[tuple[str, str], int], moving: int, plan: Plan) -> None:
        """Take one source from the poller with the most if another has two fewer; it moves when its lease is over."""
        busiest = max(load, key=lambda one: (load[one], one))
        if load[busiest] - min(load.values()) - moving < 2:
            return
        fresh = {owner.source_id for owner in plan.owners}
        for source_id, entry in self.entries.items():
            if entry.owner == busiest and not entry.is_revoked and source_id not in fresh:
                plan.grants = [grant for grant in plan.grants if grant.source_id != source_id]
                plan.revocations.append(Grant(source_id, busiest, entry.epoch))
                return
