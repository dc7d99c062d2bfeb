"""From what a caller names to the function that is meant: parsed once, remembered while the configuration stands."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from evenflow.control.v1 import resources_pb2

from services.policy.arns import LATEST, FunctionReference, function_arn, parse_reference
from services.shared.errors import EvenflowError, Reason, invalid
from services.shared.follower import ConfigView
from services.shared.function_view import FunctionView

MAX_REMEMBERED_TARGETS = 8_192
# Open questions to control about unknown functions: a flood of wrong names must not become control's flood.
MAX_OPEN_QUESTIONS = 256
DEFAULT_TENANT = "default"
DEFAULT_ACCOUNT = "123456789012"
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
    """A function of a tenant, or a version or alias of it, ready to be invoked. `arn`: qualified where the name was."""

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
        self._known: dict[tuple[str, str, str], Target] = {}
        self._questions: dict[tuple[str, str], asyncio.Task[resources_pb2.Function | None]] = {}
        configuration.subscribe(self._known.clear)

    def find(self, tenant_id: str, name: str, qualifier: str = "") -> Target | None:
        """The target, or None when the view does not know the function: then `ask`. EvenflowError: bad name."""
        key = (tenant_id, name, qualifier)
        target = self._known.get(key)
        if target is not None:
            return target
        reference = _parse(name, qualifier)
        if not self._is_here(reference):
            raise self._not_found(reference, qualifier)
        function = self._configuration.view.functions.get((tenant_id, reference.function_name))
        if function is None:
            return None
        view = FunctionView(function)
        # A version or alias may be newer than this view.
        return self._remember(key, reference, qualifier, view) if view.knows(reference.qualifier) else None

    async def ask(self, tenant_id: str, name: str, qualifier: str = "") -> Target:
        """The target after asking control once. EvenflowError: FUNCTION_NOT_FOUND, or too many questions are open."""
        target = self.find(tenant_id, name, qualifier)
        if target is not None:
            return target
        reference = _parse(name, qualifier)
        function = await self._ask_control(tenant_id, reference.function_name)
        view = FunctionView(function) if function is not None else None
        if view is None or not view.knows(reference.qualifier):
            raise self._not_found(reference, qualifier)
        return self._remember((tenant_id, name, qualifier), reference, qualifier, view)

    def tenant_of_key(self, access_key_id: str) -> str:
        """The owner of an access key; without strict auth an unknown one is the default tenant."""
        return self._configuration.view.tenant_of_key.get(access_key_id, DEFAULT_TENANT)

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

    def _remember(
        self, key: tuple[str, str, str], reference: FunctionReference, qualifier: str, view: FunctionView
    ) -> Target:
        function = view.function
        config = view.async_config(reference.qualifier)
        seconds = DEFAULT_MAXIMUM_EVENT_AGE_SECONDS
        if config.HasField("maximum_event_age_seconds"):
            seconds = config.maximum_event_age_seconds
        account, region = self.place()
        arn = function_arn(reference.region or region, account, function.function_name, _said(reference, qualifier))
        target = Target(function.tenant_id, function.function_name, reference.qualifier, arn, seconds * 1_000, view)
        if len(self._known) >= MAX_REMEMBERED_TARGETS:
            self._known.clear()
        self._known[key] = target
        return target

    def place(self) -> tuple[str, str]:
        """The fleet's account and region, which ARNs have."""
        fleet = self._configuration.view.fleet
        if fleet is None:
            return DEFAULT_ACCOUNT, DEFAULT_REGION
        return fleet.account_id or DEFAULT_ACCOUNT, fleet.region or DEFAULT_REGION

    def _is_here(self, reference: FunctionReference) -> bool:
        # The fleet stands in every region: ARNs carry the one that the caller signs for.
        return reference.account_id in (None, self.place()[0])

    def _not_found(self, reference: FunctionReference, qualifier: str) -> EvenflowError:
        account, region = self.place()
        said = _said(reference, qualifier)
        arn = function_arn(reference.region or region, reference.account_id or account, reference.function_name, said)
        return EvenflowError(
            Reason.ERROR_REASON_FUNCTION_NOT_FOUND,
            f"Function not found: {arn}",
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
