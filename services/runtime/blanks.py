"""Makes blank sandboxes, each in a control group of its own where this host has such, and takes the groups back."""

from services.runtime.cgroups import Cgroups, Limits
from services.runtime.sandbox_owner import Owner, Source
from services.runtime.sandboxes import Sandbox
from services.runtime.settings import RuntimeSettings


class Blanks:
    """Numbers them. `owner` is told what they do; cgroups None: there are none."""

    def __init__(self, settings: RuntimeSettings, owner: Owner, cgroups: Cgroups | None) -> None:
        self._settings = settings
        self._owner = owner
        self._cgroups = cgroups
        self._last_number = 0

    def make(self, parent: Source) -> Sandbox:
        """A further one, forked from this. OSError: it cannot be made."""
        group = self._cgroups.take() if self._cgroups is not None else None
        self._last_number += 1
        sandbox = Sandbox(self._last_number, self._settings.node_id, self._owner, parent, group)
        try:
            sandbox.start()
        except OSError:
            if self._cgroups is not None and group is not None:
                self._cgroups.give_back(group)
            raise
        return sandbox

    def limit(self, sandbox: Sandbox, memory_mb: int) -> None:
        """What a function of this size may use in it. OSError: refused."""
        if self._cgroups is not None and sandbox.group is not None:
            settings = self._settings
            limits = Limits(memory_mb, settings.max_processes, settings.cpu == "quota")
            self._cgroups.limit(sandbox.group, limits)

    def give_back(self, sandbox: Sandbox) -> bool:
        """All of it is dead; returns whether the kernel ended something of it for its memory."""
        if self._cgroups is None or sandbox.group is None:
            return False
        ran_out = self._cgroups.was_out_of_memory(sandbox.group)
        self._cgroups.give_back(sandbox.group)
        return ran_out
