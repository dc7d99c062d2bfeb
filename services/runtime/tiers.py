"""Which isolation a host gives its sandboxes: the tiers, what each needs, which one it is. Pure.

Tiers, each with what the one before has: 0 no new privileges, resource limits, seccomp, Landlock; a a user of its own
for each sandbox; b a cgroup of its own; c namespaces of its own. docs/isolation.md says what each withstands.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.runtime.sandbox import namespaces

TIERS = ("0", "a", "b", "c")
AUTO = "auto"
HOST_NETWORK, ISOLATED_NETWORK = "host", "isolated"
# A cgroup namespace hides names only, and older containers have none.
_NEEDED_FOR_C = (namespaces.MOUNT, namespaces.IPC, namespaces.HOST_NAME, namespaces.PID)


@dataclass(frozen=True, slots=True)
class Abilities:
    """What this machine allows; see sandbox/probe.py. cgroups_missing: why there are none, empty: there are."""

    namespaces: tuple[str, ...] = ()
    by_user_namespace: bool = False
    own_uid: bool = False
    reads_python: bool = False
    landlock: int = 0
    has_seccomp: bool = False
    cgroups_missing: str = "not looked for"


@dataclass(frozen=True, slots=True)
class Isolation:
    """What every sandbox of a host gets; `network` is HOST_NETWORK or ISOLATED_NETWORK."""

    tier: str
    namespaces: tuple[str, ...]
    by_user_namespace: bool
    has_uid: bool
    has_cgroup: bool
    landlock: int
    has_seccomp: bool
    network: str

    @property
    def has_mounts(self) -> bool:
        """Whether a sandbox sees a file system that was put together for it."""
        return namespaces.MOUNT in self.namespaces

    @property
    def has_loopback(self) -> bool:
        """Whether a process in a sandbox can connect to another one of it over 127.0.0.1."""
        return self.network == HOST_NETWORK or namespaces.NETWORK in self.namespaces

    def describe(self) -> str:
        """One line for a person."""
        own = ["user"] if self.has_uid else []
        own += ["cgroup"] if self.has_cgroup else []
        own += [f"namespaces ({', '.join(self.namespaces)})"] if self.namespaces else []
        parts = [f"own {', '.join(own)}" if own else "the host's own user"]
        parts.append(f"Landlock {self.landlock}" if self.landlock else "no Landlock")
        parts.append("seccomp" if self.has_seccomp else "no seccomp")
        parts.append("network isolated" if self.network == ISOLATED_NETWORK else "the host's network")
        return f"tier {self.tier} ({'; '.join(parts)})"

    def for_parent(self) -> Mapping[str, Any]:
        """As sandbox/parent.py wants it."""
        return {
            "namespaces": list(self.namespaces),
            "by_user_namespace": self.by_user_namespace,
            "has_uid": self.has_uid,
            "has_seccomp": self.has_seccomp,
            "has_network": self.network == HOST_NETWORK,
            "counts_memory": self.has_cgroup,
            "landlock": self.landlock,
        }


def abilities_of(found: Mapping[str, Any], has_uids: bool, cgroups_missing: str) -> Abilities:
    """What a parent found, with what only the host knows: that it has uids to give, why there are no cgroups."""
    if not cgroups_missing and not found["cgroups"]:
        cgroups_missing = "processes may not enter the groups that this host made"
    return Abilities(
        namespaces=tuple(found["namespaces"]),
        by_user_namespace=found["by_user_namespace"],
        own_uid=found["own_uid"] and has_uids,
        reads_python=found["reads_python"],
        landlock=found["landlock"],
        has_seccomp=found["seccomp"],
        cgroups_missing=cgroups_missing,
    )


def missing_for(abilities: Abilities, tier: str, network: str) -> list[str]:
    """What this machine lacks for a tier, in words; empty: nothing."""
    return _missing(abilities, tier, network, AUTO)


def choose(abilities: Abilities, wanted: str, required: str, network: str) -> Isolation:
    """The isolation to use. ValueError: what is wanted or required is not to be had here, and what is missing.

    wanted: AUTO, the strongest, with whatever a stronger tier would bring besides; or one of TIERS, exactly that.
    required: one of TIERS that it must reach at least, or empty.
    """
    if wanted == AUTO:
        tier = max((t for t in TIERS if not _missing(abilities, t, network, AUTO)), key=TIERS.index)
    else:
        tier = wanted
        missing = _missing(abilities, tier, network, wanted)
        if missing:
            raise ValueError(f"sandbox.isolation is {tier}, which this machine does not offer: {'; '.join(missing)}")
    if required and TIERS.index(tier) < TIERS.index(required):
        missing = _missing(abilities, required, network, AUTO)
        text = f"sandbox.require is {required}, but sandboxes would run in tier {tier}"
        raise ValueError(f"{text}: {'; '.join(missing) or f'sandbox.isolation is {wanted}'}")
    has_uid = tier != "0"
    used = abilities.namespaces if wanted == AUTO or tier == "c" else ()
    has_cgroup = not abilities.cgroups_missing and (tier in ("b", "c") or wanted == AUTO)
    used = tuple(n for n in used if n != namespaces.NETWORK or network == ISOLATED_NETWORK)
    if network == ISOLATED_NETWORK and namespaces.NETWORK not in used and not abilities.has_seccomp:
        raise ValueError(
            "sandbox.network is isolated, which needs network namespaces or seccomp: this machine has neither"
        )
    return Isolation(
        tier=tier,
        namespaces=used,
        by_user_namespace=abilities.by_user_namespace and bool(used),
        has_uid=has_uid,
        has_cgroup=has_cgroup,
        landlock=abilities.landlock,
        has_seccomp=abilities.has_seccomp,
        network=network,
    )


def _missing(abilities: Abilities, tier: str, network: str, wanted: str) -> list[str]:
    """What this machine lacks for a tier, in words."""
    missing: list[str] = []
    rank = TIERS.index(tier)
    has_mounts = namespaces.MOUNT in abilities.namespaces and (wanted == AUTO or tier == "c")
    if rank >= TIERS.index("a"):
        if not abilities.own_uid:
            missing.append("the host may not change the user of a process (run it as root)")
        if not abilities.reads_python and not has_mounts:
            missing.append("other users cannot read this Python's folders")
    if rank >= TIERS.index("b") and abilities.cgroups_missing:
        missing.append(f"no cgroups: {abilities.cgroups_missing}")
    if tier == "c":
        lacking = [name for name in _NEEDED_FOR_C if name not in abilities.namespaces]
        if network == ISOLATED_NETWORK and namespaces.NETWORK not in abilities.namespaces:
            lacking.append(namespaces.NETWORK)
        if lacking:
            missing.append(f"no {', '.join(lacking)} namespace")
    return missing
