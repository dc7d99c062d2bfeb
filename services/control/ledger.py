"""The ledger of concurrency shares: what each host was told, what it may still hold, both durable before they count.

Always: the bounds of a limit's shares add up to the limit at most, over crashes of control and of hosts; after a limit
was lowered they fall until they do, and nothing is given out meanwhile. The rule that makes reports trustworthy stands
in services.policy.sharing.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from evenflow.control.v1 import control_pb2

from services.control.changes import Change
from services.control.database import StoredShare
from services.control.statements import delete_share, put_share
from services.policy import sharing
from services.policy.provisioned import Standing, is_provisioned, plan_provisioned
from services.shared.errors import invalid

MAX_SHARES_PER_NODE = 10_000
MAX_LIMIT_KEY_CHARACTERS = 256
MAX_FAILURE_CHARACTERS = 512
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Row:
    """One host's part of one limit. `stored`: as on disk; its bound is never below what the host may hold.

    reported: what the host itself said that it holds; 0 until it says something. failure: what it says is wrong.
    """

    incarnation: str
    share: sharing.Share
    stored: StoredShare | None
    reported: int = 0
    failure: str = ""


class Ledger:
    """Rows by (limit key, node id). `tell` sends a node its target, if it is in touch."""

    def __init__(
        self, stored: Iterable[StoredShare], tell: Callable[[str, str, control_pb2.ShareTarget], None]
    ) -> None:
        # What the hosts reported before this start is not known: until they say hello, the stored bound counts.
        self.rows: dict[sharing.ShareKey, Row] = {
            (s.limit_key, s.node_id): Row(s.incarnation, sharing.Share(s.target, s.bound, is_settled=False), s)
            for s in stored
        }
        self._tell = tell

    def bound_of(self, node_id: str) -> int:
        """What is counted as held by a node, over all limits."""
        return sum(row.share.bound for (_, owner), row in self.rows.items() if owner == node_id)

    def totals(self) -> dict[str, int]:
        """What is given out of each limit."""
        totals: dict[str, int] = {}
        for (limit_key, _), row in list(self.rows.items()):
            totals[limit_key] = totals.get(limit_key, 0) + row.share.bound
        return totals

    def standing(self, limit_key: str, lost: Collection[str]) -> Standing:
        """How far hosts that are not lost are with a provisioned limit."""
        rows = [row for (key, node_id), row in self.rows.items() if key == limit_key and node_id not in lost]
        return Standing(
            target=sum(row.share.target for row in rows),
            ready=sum(min(row.reported, row.share.target) for row in rows),
            failure=next((row.failure for row in rows if row.failure), ""),
        )

    def report(self, node_id: str, incarnation: str, limit_key: str, held: int, failure: str = "") -> None:
        """What the current stream of a node says it holds. EvenflowError: nonsense."""
        row = self.rows.get((limit_key, node_id))
        if row is None or row.incarnation != incarnation:
            if held:
                self._adopt(node_id, incarnation, limit_key, held)
            return
        row.reported, row.failure = held, failure[:MAX_FAILURE_CHARACTERS]
        # Sandboxes that were on their way up when their target was lowered are no error.
        if held > row.share.bound and not is_provisioned(limit_key):
            log.error("%s holds %d of %s, %d were given", node_id, held, limit_key, row.share.bound)
        row.share = sharing.Share(row.share.target, held, is_settled=held == row.share.target)

    def resume(
        self,
        node_id: str,
        incarnation: str,
        shares_held: Mapping[str, int],
        limits: Mapping[str, int],
        failures: Mapping[str, str] | None = None,
    ) -> None:
        """A node said hello: what it holds replaces what was assumed, and it is told its targets again."""
        for (limit_key, owner), row in list(self.rows.items()):
            if owner == node_id and row.incarnation == incarnation:
                target, held = row.share.target, shares_held.get(limit_key, 0)
                row.reported = held
                row.failure = (failures or {}).get(limit_key, "")[:MAX_FAILURE_CHARACTERS]
                if is_provisioned(limit_key):
                    # Sandboxes that are still to come up are no sign that the target did not arrive.
                    row.share = sharing.Share(target, held, is_settled=held == target)
                    continue
                # Below its target: that raise never arrived. It is taken back here and planned anew, by today's limits.
                row.share = sharing.Share(min(target, held), held, is_settled=held <= target)
        for limit_key, held in shares_held.items():
            if held and (limit_key, node_id) not in self.rows:
                self._adopt(node_id, incarnation, limit_key, held)
        for (limit_key, owner), row in self.rows.items():
            if owner == node_id:
                self._tell_row(limit_key, node_id, row, limits)

    def free(self, node_id: str) -> None:
        """The node's incarnation was proven dead, durably: its shares are gone."""
        for key in [key for key in self.rows if key[1] == node_id]:
            del self.rows[key]

    def plan(
        self,
        change: Change,
        limits: Mapping[str, int],
        account_limit: int,
        hosts: Mapping[str, tuple[str, sharing.Host]],
        lost: Collection[str] = (),
    ) -> None:
        """Put into the change what should be different now. hosts: those in touch, by node id, with incarnation.

        lost: those that are out of touch for so long that sandboxes are kept ready elsewhere instead.
        """
        in_touch = {node_id: host for node_id, (_, host) in hosts.items()}
        # Invocations and sandboxes to be kept ready are counted apart.
        shares: tuple[dict[sharing.ShareKey, sharing.Share], ...] = ({}, {})
        for key, row in self.rows.items():
            shares[is_provisioned(key[0])][key] = row.share
        runs = {key: limit for key, limit in limits.items() if not is_provisioned(key)}
        ready = {key: limit for key, limit in limits.items() if is_provisioned(key)}
        targets = {
            **sharing.plan_targets(runs, in_touch, shares[False], account_limit),
            **plan_provisioned(ready, in_touch, lost, shares[True]),
        }
        for key in {*self.rows, *targets}:
            self._plan_row(change, key, targets.get(key), limits, hosts)

    def _plan_row(
        self,
        change: Change,
        key: sharing.ShareKey,
        target: int | None,
        limits: Mapping[str, int],
        hosts: Mapping[str, tuple[str, sharing.Host]],
    ) -> None:
        limit_key, node_id = key
        row = self.rows.get(key)
        share = row.share if row is not None else sharing.NOTHING
        incarnation = row.incarnation if row is not None else hosts[node_id][0]
        if row is not None and target is None and share.bound == 0:
            # Nothing is held and nothing will be: the row has served.
            change.statements.append(delete_share(limit_key, node_id))
            change.when_committed.append(lambda: self._forget(key))
            return
        new_target = share.target if target is None else target
        stored = StoredShare(limit_key, node_id, incarnation, new_target, max(new_target, share.held))
        if row is None or row.stored != stored:
            change.statements.append(put_share(stored))
        if row is None or row.stored != stored or target is not None:
            change.when_committed.append(lambda: self._take(key, stored, target, limits))

    def _take(self, key: sharing.ShareKey, stored: StoredShare, target: int | None, limits: Mapping[str, int]) -> None:
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = Row(stored.incarnation, sharing.NOTHING, None)
        row.stored = stored
        if target is None:
            return
        # It may hold the old target or the new one until it reports, whatever it reported before.
        row.share = sharing.Share(target, max(row.share.bound, target), is_settled=False)
        self._tell_row(key[0], key[1], row, limits)

    def _forget(self, key: sharing.ShareKey) -> None:
        row = self.rows.get(key)
        if row is not None and row.share.bound == 0:
            del self.rows[key]

    def _adopt(self, node_id: str, incarnation: str, limit_key: str, held: int) -> None:
        if len(limit_key) > MAX_LIMIT_KEY_CHARACTERS:
            raise invalid(f"limit_key has {len(limit_key)} characters; at most {MAX_LIMIT_KEY_CHARACTERS} are taken")
        if sum(owner == node_id for _, owner in self.rows) >= MAX_SHARES_PER_NODE:
            raise invalid(f"a node holds at most {MAX_SHARES_PER_NODE:,} shares")
        if is_provisioned(limit_key):
            # They came up after all, before the node heard that it is to keep none; it may also be told again.
            self.rows[limit_key, node_id] = Row(incarnation, sharing.Share(0, held, is_settled=False), None, held)
            self._tell(node_id, incarnation, control_pb2.ShareTarget(limit_key=limit_key))
            return
        log.error("%s holds %d of %s, which control did not know of: counted", node_id, held, limit_key)
        self.rows[limit_key, node_id] = Row(incarnation, sharing.Share(held, held, is_settled=True), None, held)

    def _tell_row(self, limit_key: str, node_id: str, row: Row, limits: Mapping[str, int]) -> None:
        removed = limit_key not in limits and row.share.target == 0
        message = control_pb2.ShareTarget(limit_key=limit_key, target=row.share.target, removed=removed)
        self._tell(node_id, row.incarnation, message)
