"""From what a caller names to the function that is meant and may be invoked: parsed once, remembered while the
configuration stands."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from evenflow.control.v1 import resources_pb2

from services.policy.arns import LATEST, FunctionReference, function_arn, parse_reference
from services.policy.permissions import INVOKE, Caller, Resource, why_not
from services.shared.config_view import ConfigView
from services.shared.errors import EvenflowError, Reason, invalid
from services.shared.function_view import FunctionView

MAX_REMEMBERED_TARGETS = 32_768
# Open questions to control about unknown functions: a flood of wrong names must not become control's flood.
MAX_OPEN_QUESTIONS = 256
DEFAULT_REGION = "us-east-1"
DEFAULT_MAXIMUM_EVENT_AGE_SECONDS = 21_600


class Configuration(Protocol):
    """What a door needs of the control follower."""

    @property
    def view(self) -> ConfigView:
        """The fleet as known now."""
        ...

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call this after every change."""
        ...

    async def ask_function(self, tenant_id: str, function_name: str) -> resources_pb2.Function | None:
        """Ask control once."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """A function, or a version or alias of it, ready to be invoked by who asked for it.

    `tenant_id`: its owner's, whoever calls. `arn`: qualified where the name was.
    """

    tenant_id: str
    function_name: str
    qualifier: str
    arn: str
    max_age_ms: int
    view: FunctionView

    def choose(self, draw: float) -> resources_pb2.FunctionVersion:
        """What one synchronous invocation runs. `draw`: 0.0 to below 1.0, for aliases that split their traffic."""
        version = self.view.choose(self.qualifier, draw)
        # Targets are made of qualifiers that are known, and anew after every change.
        assert version is not None, "the qualifier is known"
        return version


class Targets:
    """Finds targets."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._known: dict[tuple[Caller, str, str], Target] = {}
        self._questions: dict[tuple[str, str], asyncio.Task[resources_pb2.Function | None]] = {}
        configuration.subscribe(self._known.clear)

    def find(self, caller: Caller, name: str, qualifier: str = "") -> Target | None:
        """The target, or None when the view does not know the function: then `ask`.

        EvenflowError: a bad name; FUNCTION_NOT_FOUND; ACCESS_DENIED: another tenant's, whether it exists or not, or not
        among what the calling function may invoke.
        """
        key = (caller, name, qualifier)
        target = self._known.get(key)
        if target is not None:
            return target
        reference = _parse(name, qualifier)
        owner_id = self._owner(caller, reference, qualifier)
        view = self._configuration.view.function_view(owner_id, reference.function_name)
        # A version or alias may be newer than this view.
        if view is None or not view.knows(reference.qualifier):
            return None
        return self._remember(key, reference, view)

    async def ask(self, caller: Caller, name: str, qualifier: str = "") -> Target:
        """The target after asking control once. EvenflowError: as `find`, or too many questions are open."""
        target = self.find(caller, name, qualifier)
        if target is not None:
            return target
        reference = _parse(name, qualifier)
        owner_id = self._owner(caller, reference, qualifier)
        function = await self._ask_control(owner_id, reference.function_name)
        view = FunctionView(function) if function is not None else None
        if view is None or not view.knows(reference.qualifier):
            # Whoever may not invoke it learns nothing from whether it exists.
            self._check_permission(caller, reference, owner_id, qualifier, ())
            raise self._not_found(caller, reference, qualifier)
        return self._remember((caller, name, qualifier), reference, view)

    async def _ask_control(self, tenant_id: str, function_name: str) -> resources_pb2.Function | None:
        key = (tenant_id, function_name)
        question = self._questions.get(key)
        if question is None:
            if len(self._questions) >= MAX_OPEN_QUESTIONS:
                raise EvenflowError(
                    Reason.ERROR_REASON_UNAVAILABLE, "too many unknown functions are being looked up; try again", 1_000
                )
            question = asyncio.create_task(self._configuration.ask_function(*key), name="ask function")
            self._questions[key] = question
            question.add_done_callback(lambda _: self._questions.pop(key, None))
        # One caller that goes away must not take the answer from the others.
        return await asyncio.shield(question)

    def _remember(self, key: tuple[Caller, str, str], reference: FunctionReference, view: FunctionView) -> Target:
        caller, _, qualifier = key
        function = view.function
        self._check_permission(caller, reference, function.tenant_id, qualifier, function.permissions)
        config = view.async_config(reference.qualifier)
        seconds = DEFAULT_MAXIMUM_EVENT_AGE_SECONDS
        if config.HasField("maximum_event_age_seconds"):
            seconds = config.maximum_event_age_seconds
        region, account = reference.region or self._region(), self._account(function.tenant_id)
        arn = function_arn(region, account, function.function_name, _said(reference, qualifier))
        target = Target(function.tenant_id, function.function_name, reference.qualifier, arn, seconds * 1_000, view)
        if len(self._known) >= MAX_REMEMBERED_TARGETS:
            self._known.clear()
        self._known[key] = target
        return target

    def _owner(self, caller: Caller, reference: FunctionReference, qualifier: str) -> str:
        """Whose function is named: the caller's own, unless an ARN says another account."""
        # The fleet stands in every region: ARNs carry the one that their reader signed for.
        if reference.account_id in (None, self._account(caller.tenant_id)):
            return caller.tenant_id
        owner_id = self._configuration.view.tenant_of_account(str(reference.account_id))
        if owner_id is None:
            # Nobody's account looks like one that opened nothing.
            self._check_permission(caller, reference, "", qualifier, ())
        return owner_id or ""

    def _check_permission(
        self,
        caller: Caller,
        reference: FunctionReference,
        owner_id: str,
        qualifier: str,
        statements: Sequence[resources_pb2.PermissionStatement],
    ) -> None:
        if owner_id == caller.tenant_id and not caller.is_function:
            return
        resource = Resource(
            owner_id,
            self._named_arn(caller, reference, qualifier),
            reference.function_name,
            reference.qualifier,
            statements,
        )
        refusal = why_not(caller, INVOKE, resource)
        if refusal is not None:
            raise EvenflowError(Reason.ERROR_REASON_ACCESS_DENIED, refusal)

    def _region(self) -> str:
        fleet = self._configuration.view.fleet
        return (fleet.region if fleet is not None else "") or DEFAULT_REGION

    def _account(self, tenant_id: str) -> str:
        return self._configuration.view.account_of(tenant_id)

    def _named_arn(self, caller: Caller, reference: FunctionReference, qualifier: str) -> str:
        said = _said(reference, qualifier)
        account = reference.account_id or self._account(caller.tenant_id)
        return function_arn(reference.region or self._region(), account, reference.function_name, said)

    def _not_found(self, caller: Caller, reference: FunctionReference, qualifier: str) -> EvenflowError:
        return EvenflowError(
            Reason.ERROR_REASON_FUNCTION_NOT_FOUND,
            f"Function not found: {self._named_arn(caller, reference, qualifier)}",
            metadata={"function_name": reference.function_name},
        )


def _said(reference: FunctionReference, qualifier: str) -> str:
    """The qualifier that the caller named; empty: none."""
    return qualifier or (reference.qualifier if reference.qualifier != LATEST else "")


def _parse(name: str, qualifier: str) -> FunctionReference:
    try:
        return parse_reference(name, qualifier)
    except ValueError as e:
        raise invalid(str(e), field="function_name") from None
