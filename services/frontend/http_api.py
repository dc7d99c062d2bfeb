"""The Lambda API's operations at the HTTP door: bounded tasks beside the hot path; links to packages."""

import asyncio
import re
from collections.abc import Coroutine
from typing import Any

from services.frontend import http_answers
from services.frontend.http_protocol import HttpConnection, HttpRequest
from services.frontend.http_replies import Replies
from services.frontend.lambda_api.api import ApiRequest, LambdaApi
from services.frontend.lambda_api.control_calls import ControlCalls
from services.frontend.lambda_api.errors import ApiError, missing, too_many
from services.frontend.lambda_api.links import LINK_PATH, Links
from services.frontend.submissions import draining
from services.policy.permissions import Caller
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason

# Requests of the API in hand at once; more are answered 429.
MAX_API_REQUESTS = 64
# Packages under way to callers; each is in memory whole, up to 50 MiB.
MAX_DOWNLOADS = 4
# What reads a package or sends one has up to 70 MB in memory.
MAX_LARGE_REQUESTS = 4
LARGE_REQUEST_BYTES = 1_048_576
_AUTHORITY = re.compile(r"[A-Za-z0-9.-]{1,200}(:\d{1,5})?|\[[0-9a-f:]{2,40}\](:\d{1,5})?")
_SCOPE = re.compile(rb"Credential=[^/,\s]{1,128}/\d{8}/([a-z]{2}(?:-[a-z]+)+-\d)/")
_URL_SCOPE = re.compile(rb"X-Amz-Credential=[^&%]{1,128}(?:%2F|/)\d{8}(?:%2F|/)([a-z]{2}(?:-[a-z]+)+-\d)(?:%2F|/)")


class ApiDoor:
    """Answers the API's requests and the links that it gives out."""

    def __init__(
        self,
        api: LambdaApi,
        control: ControlCalls,
        links: Links,
        replies: Replies,
        clock: Clock,
        default_authority: str,
    ) -> None:
        self._api = api
        self._control = control
        self._links = links
        self._replies = replies
        self._clock = clock
        self._default_authority = default_authority
        self._tasks: set[asyncio.Task[None]] = set()
        self._large = asyncio.Semaphore(MAX_LARGE_REQUESTS)
        self._downloads = asyncio.Semaphore(MAX_DOWNLOADS)

    def handle(self, connection: HttpConnection, request: HttpRequest, caller: Caller) -> None:
        """Take a request of the API; it is answered later. ApiError, EvenflowError: not now."""
        if request.is_too_large:
            raise ApiError("RequestTooLargeException", 413, f"Request must be smaller than {request.limit_bytes} bytes")
        self._begin(self._operate(connection, request, caller, self._replies.new_id()), "api request")

    def download(self, connection: HttpConnection, request: HttpRequest) -> None:
        """Take a request for a package; it is answered later. ApiError, EvenflowError: not now."""
        token = request.url.decode("ascii", "replace").partition("?")[0].removeprefix(LINK_PATH)
        package = self._links.read(token, self._clock.wall_ms())
        if package is None:
            raise ApiError(
                "AccessDeniedException", 403, "This link is no link of this fleet's, or its ten minutes are over."
            )
        self._begin(self._send(connection, request, package.code_sha256, self._replies.new_id()), "package download")

    def authority(self, request: HttpRequest) -> str:
        """The door as the caller named it."""
        text = request.headers.get(b"host", b"").decode("ascii", "replace")
        return text if _AUTHORITY.fullmatch(text) else self._default_authority

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        if self._replies.is_draining or len(self._tasks) >= MAX_API_REQUESTS:
            work.close()
            raise draining() if self._replies.is_draining else too_many()
        self._replies.owed += 1
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._replies.owed -= 1

    async def _operate(self, connection: HttpConnection, request: HttpRequest, caller: Caller, request_id: str) -> None:
        replies = self._replies
        try:
            if request.kept_bytes > LARGE_REQUEST_BYTES:
                async with self._large:
                    response = await self._api.respond(self._translate(request, caller))
            else:
                response = await self._api.respond(self._translate(request, caller))
            head = http_answers.head(response.status, request_id, replies.now(), len(response.body), *response.headers)
            connection.answer(request, head, response.body)
        except (ApiError, EvenflowError) as e:
            replies.refuse(connection, request, e, request_id, caller.tenant_id)
        except TimeoutError:
            error = EvenflowError(
                Reason.ERROR_REASON_DEADLINE_EXCEEDED, "the operation took too long: it may have been done"
            )
            replies.refuse(connection, request, error, request_id, caller.tenant_id)
        except Exception:
            replies.fail(connection, request, "an API request", request_id, caller.tenant_id)

    def _translate(self, request: HttpRequest, caller: Caller) -> ApiRequest:
        given = request.headers.get(b"authorization")
        scope = _SCOPE.search(given) if given is not None else _URL_SCOPE.search(request.url)
        return ApiRequest(
            request.method.decode("ascii", "replace"),
            request.url.decode("ascii", "replace"),
            request.headers,
            request.body,
            caller,
            scope[1].decode() if scope else "",
            self.authority(request),
        )

    async def _send(
        self, connection: HttpConnection, request: HttpRequest, code_sha256: bytes, request_id: str
    ) -> None:
        replies = self._replies
        try:
            async with self._downloads:
                parts = [part async for part in self._control.download(code_sha256)]
                body = b"".join(parts)
                head = http_answers.head(200, request_id, replies.now(), len(body), content_type=b"application/zip")
                connection.answer(request, head, body)
        except EvenflowError as e:
            gone = e.kind.http_status == 404
            replies.refuse(connection, request, missing("The package is gone.") if gone else e, request_id)
        except Exception:
            replies.fail(connection, request, "a package", request_id)
