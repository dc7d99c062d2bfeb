"""What of a version is kept ready on this host whether it is invoked or not: its provisioned concurrency."""

from dataclasses import dataclass, field

from services.runtime.sandboxes import Sandbox


@dataclass(slots=True)
class Provision:
    """Counts of one version's provisioned sandboxes.

    retry_at_ms: monotonic; no start before. failure: why those that are missing do not come up, in a sentence; empty:
    nothing is wrong.
    """

    target: int = 0
    idle: list[Sandbox] = field(default_factory=list)
    busy: int = 0
    starting: int = 0
    failures: int = 0
    retry_at_ms: float = 0.0
    failure: str = ""

    @property
    def ready(self) -> int:
        """Those that are initialised."""
        return len(self.idle) + self.busy

    @property
    def missing(self) -> int:
        """Starts to begin so that as many are ready as should be."""
        return max(0, self.target - self.ready - self.starting) if self.target else 0
