"""What a function needs before its first fork: its code, a prepared parent, and a template where one is asked for."""

from collections.abc import Callable

from services.runtime.functions import HostedFunction
from services.runtime.intake import Intake
from services.runtime.keeper import Keeper
from services.runtime.parents import PreparedParent
from services.runtime.sandboxes import Sandbox
from services.runtime.snapshots import Request, Snapshots
from services.runtime.start_failures import RETRY_AFTER_MS, StartFailures
from services.runtime.templates import Template
from services.shared.errors import EvenflowError, Reason


class Preparation:
    """One run at a time for a function; HostedFunction.preparing is its task."""

    def __init__(
        self,
        keeper: Keeper,
        intake: Intake,
        snapshots: Snapshots,
        start_failures: StartFailures,
        init_seconds: float,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._keeper = keeper
        self._intake = intake
        self._snapshots = snapshots
        self._start_failures = start_failures
        self._init_seconds = init_seconds
        self._is_stopping = is_stopping

    async def run(
        self,
        function: HostedFunction,
        room_mb: int,
        take_blank: Callable[[PreparedParent, HostedFunction], Sandbox],
        request_of: Request,
    ) -> None:
        """Make everything ready, or tell the keeper why not; room_mb: see Snapshots.wants_template."""
        template: Template | None = None
        try:
            try:
                await self._intake.fetch(function)
                parent = self._intake.parent_of(function)
                # None: the function changed meanwhile; on_prepared has it looked at again.
                if parent is not None:
                    await parent.ensure()
                    if self._snapshots.wants_template(function, room_mb):
                        template = await self._snapshots.make(
                            function, parent, take_blank, request_of, self._init_seconds
                        )
            finally:
                function.preparing = None
        except EvenflowError as e:
            self._keeper.on_code_unavailable(function, e)
        except OSError as e:
            self._keeper.on_start_unavailable(
                function,
                EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, f"sandboxes cannot be started: {e}", RETRY_AFTER_MS),
            )
        except ValueError as e:
            error = EvenflowError(Reason.ERROR_REASON_INVALID_PARAMETER, f"a sandbox cannot be started: {e}")
            self._keeper.on_code_unavailable(function, error)
        else:
            if template is None or template.is_ready or template.is_crashed or self._is_stopping():
                self._keeper.on_prepared(function)
            else:
                self._template_failed(template)

    def _template_failed(self, template: Template) -> None:
        """The function's code could not be loaded: told as when a sandbox of its own fails so."""
        provisioned = template.function.provisioned
        # Nobody waits: it was to be kept ready, and is tried again after a while.
        template.sandbox.is_provisioned = provisioned.missing > 0 and not template.function.waiting
        self._keeper.on_start_lost(template.sandbox, self._start_failures.outcome_of_template(template))
