"""What isolation this machine would give sandboxes: `python -m services.runtime.look`, one JSON object on stdout.

{"tier": "b", "isolation": "tier b (...)", "missing": {"c": ["..."]}}: the strongest, in words, what others lack. Run it
as who would run the fleet, from the same cgroup.
"""

import asyncio
import json
import os
import tempfile

from services.runtime.cgroups import Cgroups
from services.runtime.discovery import own_interpreter
from services.runtime.parents import PreparedParent, Surroundings
from services.runtime.tiers import AUTO, HOST_NETWORK, TIERS, abilities_of, choose, missing_for
from services.runtime.uids import FIRST_UID


async def look() -> dict[str, object]:
    """Try everything as a host does at its start. OSError: a parent of sandboxes does not even start."""
    with tempfile.TemporaryDirectory(prefix="evenflow-look-") as folder:
        cgroups = Cgroups("look")
        group = cgroups.take() if not cgroups.missing else None
        is_root = os.geteuid() == 0
        surroundings = Surroundings(
            probe_uid=FIRST_UID if is_root else os.geteuid(),
            probe_cgroups=tuple(group.entrances) if group is not None else (),
            folder=os.path.realpath(folder),
        )
        parent = PreparedParent("look", own_interpreter(), (), (), surroundings, lambda: None)
        try:
            await parent.ensure()
            abilities = abilities_of(parent.found, has_uids=is_root, cgroups_missing=cgroups.missing)
        finally:
            await parent.stop()
            cgroups.close()
    found = choose(abilities, AUTO, "", HOST_NETWORK)
    missing = {tier: missing_for(abilities, tier, HOST_NETWORK) for tier in TIERS}
    return {
        "tier": found.tier,
        "isolation": found.describe(),
        "missing": {tier: words for tier, words in missing.items() if words},
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(look())))
