"""The Lambda API's front desk: from a request to its operation, and from its result to the response."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from services.frontend.lambda_api import (
    async_configs,
    concurrency,
    functions,
    layers,
    parsing,
    permissions,
    sources,
    tags,
    urls,
    validation,
    versions,
)
from services.frontend.lambda_api.allowances import require_allowed
from services.frontend.lambda_api.call import Call, Handler, ObjectStore
from services.frontend.lambda_api.control_calls import ControlCalls
from services.frontend.lambda_api.errors import ApiError, bad_bounds, not_offered
from services.frontend.lambda_api.links import Links
from services.frontend.lambda_api.routing import Found, Router
from services.frontend.lambda_api.serializing import serialize
from services.frontend.lambda_api.shapes import service_model
from services.policy.permissions import Caller
from services.shared.clock import Clock

# A whole operation, an upload of 50 MiB and a fetch from S3 included.
OPERATION_SECONDS = 120.0
# Base64 of 50 MiB and the members around it; AWS's own figure.
MAX_PACKAGE_REQUEST_BYTES = 70_167_211
MAX_REQUEST_BYTES = 1_048_576
# Larger bodies are read on a thread: the loop has events to accept.
LARGE_BODY_BYTES = 65_536
_BRINGS_CODE = re.compile(rb"/(functions|code|versions)/?(\?|$)")
HANDLERS: Mapping[str, Handler] = {
    **functions.OPERATIONS,
    **versions.OPERATIONS,
    **async_configs.OPERATIONS,
    **concurrency.OPERATIONS,
    **permissions.OPERATIONS,
    **tags.OPERATIONS,
    **layers.OPERATIONS,
    **urls.OPERATIONS,
    **sources.OPERATIONS,
}


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request as it came, with whose it is. `region`: of its signature; empty: the fleet's."""

    method: str
    url: str
    headers: Mapping[bytes, bytes]
    body: bytes
    caller: Caller
    region: str
    authority: str


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """What is answered."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def body_limit(url: bytes) -> int:
    """The largest body that an operation at this URL may have, bytes."""
    return MAX_PACKAGE_REQUEST_BYTES if _BRINGS_CODE.search(url) else MAX_REQUEST_BYTES


@cache
def router() -> Router:
    """Of the whole model; made with the first request of the API, on a thread."""
    return Router(service_model())


class LambdaApi:
    """Answers requests of the API; `region` tells the fleet's."""

    def __init__(
        self,
        control: ControlCalls,
        objects: ObjectStore,
        links: Links,
        clock: Clock,
        region: Callable[[], str],
        neighbours: Callable[[str], Sequence[str]],
    ) -> None:
        """`neighbours`: of a tenant, patterns of the AWS resources that it may name."""
        self._control = control
        self._objects = objects
        self._links = links
        self._clock = clock
        self._region = region
        self._neighbours = neighbours

    async def respond(self, request: ApiRequest) -> ApiResponse:
        """The response of one operation. ApiError, EvenflowError; TimeoutError beyond its time."""
        found = await self._find(request)
        handler = HANDLERS.get(found.operation.name)
        if handler is None:
            raise not_offered(found.operation.name)
        # Parsing knows nothing of the loop, and a package's base64 takes its time.
        if len(request.body) > LARGE_BODY_BYTES:
            params = await asyncio.to_thread(_parse, found, request)
        else:
            params = _parse(found, request)
        caller = request.caller
        call = Call(
            found.operation.name,
            params,
            caller.tenant_id,
            caller.account_id,
            request.region or self._region(),
            request.authority,
            self._clock.wall_ms(),
            self._control,
            self._objects,
            self._links,
            self._neighbours(caller.tenant_id),
        )
        if caller.is_function:
            require_allowed(call, caller)
        async with asyncio.timeout(OPERATION_SECONDS):
            result = await handler(call)
        return ApiResponse(*serialize(found.operation, result))

    async def _find(self, request: ApiRequest) -> Found:
        known = router() if router.cache_info().currsize else await asyncio.to_thread(router)
        try:
            found = known.find(request.method, request.url)
        except ValueError:
            raise ApiError("InvalidParameterValueException", 400, "The query has too many fields.") from None
        if found is None:
            text = f"no operation is known at {request.method[:16]} {request.url.partition('?')[0][:200]}"
            raise ApiError("UnknownOperationException", 404, text)
        return found


def _parse(found: Found, request: ApiRequest) -> dict[str, object]:
    try:
        params = parsing.parse(found, request.headers, request.body)
    except parsing.BadRequest as e:
        raise ApiError(e.code, 400, str(e)) from None
    wrong = validation.check(found.operation.input, params)
    if wrong:
        raise bad_bounds(wrong)
    return params
