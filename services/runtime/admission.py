"""What of each concurrency limit this host holds and uses, and what it is to keep ready. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

# Limit key, what is held of it now, and what is wrong, see Share.
Report = Callable[[str, int, str], None]

ACCOUNT = "account"
_PROVISIONED = "provisioned/"
MAX_FAILURE_BYTES = 512


@dataclass(slots=True)
class Share:
    """One limit: what control lets this host hold, what is running, what was last told to be held.

    failure: of sandboxes to be kept ready, why some do not come up; empty: nothing is wrong.
    """

    target: int = 0
    in_use: int = 0
    held: int = 0
    failure: str = ""


class Shares:
    """Running invocations never exceed the share; `report` is told what is held whenever that changes."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._shares: dict[str, Share] = {}
        # Of each limit: what is left for sandboxes that are kept ready and rest now.
        self._kept: dict[str, int] = {}
        # The family of provisioned concurrency: a target says how many sandboxes of a version are to be kept ready,
        # and what is held is how many are.
        self._provisioned: dict[str, Share] = {}

    def set_target(self, limit_key: str, target: int) -> None:
        """A higher target is usable at once; a lower one takes effect as runs end."""
        if limit_key.startswith(_PROVISIONED):
            self._set_provisioned(limit_key, target)
            return
        share = self._shares.setdefault(limit_key, Share())
        share.target = target
        self._settle(limit_key, share)

    def remove(self, limit_key: str) -> None:
        """The limit is gone; what still runs under it is let go of as it ends."""
        self.set_target(limit_key, 0)

    def free(self, limit_key: str) -> int:
        """Invocations that may start on demand now; 0 while no target was told."""
        share = self._shares.get(limit_key)
        return max(0, share.target - share.in_use - self._kept.get(limit_key, 0)) if share is not None else 0

    def is_known(self, limit_key: str) -> bool:
        """Whether control told a target for this limit."""
        return limit_key in self._shares

    def take(self, limit_key: str) -> bool:
        """Use one on demand; False: none is free."""
        share = self._shares.get(limit_key)
        if share is None or share.in_use + self._kept.get(limit_key, 0) >= share.target:
            return False
        share.in_use += 1
        return True

    def keep(self, limit_key: str, count: int) -> None:
        """So many more sandboxes that are kept ready rest; what they may need is for nobody else. Negative: fewer."""
        kept = self._kept.get(limit_key, 0) + count
        if kept > 0:
            self._kept[limit_key] = kept
        else:
            self._kept.pop(limit_key, None)

    def take_kept(self, limit_key: str, kept_key: str) -> bool:
        """Use one for a sandbox that was kept ready, which rests no more; False: not even for that one is free.

        kept_key: the limit that it was counted by; another one when its function's limit has changed since.
        """
        share = self._shares.get(limit_key)
        if share is None or share.in_use >= share.target:
            return False
        share.in_use += 1
        self.keep(kept_key, -1)
        return True

    def give_back(self, limit_key: str) -> None:
        """A run ended."""
        share = self._shares[limit_key]
        share.in_use -= 1
        if share.held != share.target:
            self._settle(limit_key, share)

    def items(self) -> list[tuple[str, Share]]:
        """Every limit by key."""
        return sorted({**self._shares, **self._provisioned}.items())

    # --- provisioned concurrency

    def _set_provisioned(self, limit_key: str, target: int) -> None:
        share = self._provisioned.setdefault(limit_key, Share())
        share.target = target
        # An answer to every target: control counts on the higher of the two until it has one.
        self._report(limit_key, share.held, share.failure)
        if target == 0 and share.held == 0:
            del self._provisioned[limit_key]

    def provisioned(self) -> dict[tuple[str, str, str], int]:
        """How many sandboxes are to be kept ready, by tenant, function and version."""
        split = ((key.split("/"), share.target) for key, share in self._provisioned.items())
        return {(parts[1], parts[2], parts[3]): target for parts, target in split if len(parts) == 4}

    def set_ready(self, limit_key: str, ready: int, in_use: int, failure: str = "") -> None:
        """So many sandboxes of a version are ready, and so many of those run something; `failure`: see Share."""
        share = self._provisioned.setdefault(limit_key, Share())
        share.in_use = in_use
        failure = failure.encode()[:MAX_FAILURE_BYTES].decode(errors="ignore")
        if (ready, failure) != (share.held, share.failure):
            share.held, share.failure = ready, failure
            self._report(limit_key, ready, failure)
        if share.target == 0 and ready == 0:
            del self._provisioned[limit_key]

    def _settle(self, limit_key: str, share: Share) -> None:
        held = max(share.target, share.in_use)
        if held != share.held:
            share.held = held
            self._report(limit_key, held, "")
        if share.target == 0 and share.in_use == 0:
            del self._shares[limit_key]


def limit_key_of(tenant_id: str, function_name: str, is_reserved: bool) -> str:
    """The limit that an invocation counts against."""
    return f"function/{tenant_id}/{function_name}" if is_reserved else ACCOUNT


def provisioned_key_of(tenant_id: str, function_name: str, version: str) -> str:
    """The key under which control says how many sandboxes of the version are to be kept ready."""
    return f"{_PROVISIONED}{tenant_id}/{function_name}/{version}"
