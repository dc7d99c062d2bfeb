"""How many sandboxes a host has, in which state, and how much memory they stand for. Pure."""

from services.runtime.sandboxes import Sandbox


class Census:
    """Counts every sandbox that has a function, from the beginning of its start until it is gone.

    The _mb are sums of memory sizes: of all; of those that were told to end or end by themselves; of those that are
    kept ready. Also counts what of its function starts. Templates run nothing: they count by their memory only.
    """

    def __init__(self) -> None:
        self.count = 0
        self.starting = 0
        self.memory_mb = 0
        self.ending_mb = 0
        self.provisioned = 0
        self.provisioned_mb = 0
        self.templates_mb = 0
        self._ending: set[int] = set()

    @property
    def ending(self) -> int:
        """Those whose room comes free in a moment."""
        return len(self._ending)

    def begun(self, sandbox: Sandbox) -> None:
        """Its handler is being loaded."""
        self.count += 1
        self.starting += 1
        self.memory_mb += sandbox.memory_mb
        if sandbox.is_provisioned:
            sandbox.function.provisioned.starting += 1
            self.provisioned += 1
            self.provisioned_mb += sandbox.memory_mb
        else:
            sandbox.function.starting += 1

    def template_begun(self, memory_mb: int) -> None:
        """A sandbox that others are forked from takes its memory."""
        self.memory_mb += memory_mb
        self.templates_mb += memory_mb

    def template_ends(self, memory_mb: int) -> None:
        """It was told to end, or ends by itself; once."""
        self.ending_mb += memory_mb

    def template_gone(self, memory_mb: int) -> None:
        """Nothing of it is left; after template_ends."""
        self.memory_mb -= memory_mb
        self.templates_mb -= memory_mb
        self.ending_mb -= memory_mb

    def started(self, sandbox: Sandbox) -> None:
        """Its handler is loaded, or will not be."""
        self.starting -= 1
        if sandbox.is_provisioned:
            sandbox.function.provisioned.starting -= 1
        else:
            sandbox.function.starting -= 1

    def demoted(self, sandbox: Sandbox) -> None:
        """It is kept ready no more; it ends after its run."""
        sandbox.is_provisioned = False
        self.provisioned -= 1
        self.provisioned_mb -= sandbox.memory_mb

    def ends(self, sandbox: Sandbox) -> None:
        """It is given no run any more."""
        self._ending.add(sandbox.number)
        self.ending_mb += sandbox.memory_mb

    def gone(self, sandbox: Sandbox) -> None:
        """Nothing of it is left."""
        self.count -= 1
        self.memory_mb -= sandbox.memory_mb
        if sandbox.number in self._ending:
            self._ending.remove(sandbox.number)
            self.ending_mb -= sandbox.memory_mb
        if sandbox.is_provisioned:
            self.provisioned -= 1
            self.provisioned_mb -= sandbox.memory_mb
