"""Which part of the HTTP door a request line names."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

from services.frontend.lambda_api.links import LINK_PATH

MAX_REMEMBERED_ROUTES = 4_096
HEALTH_PATH = b"/_evenflow/health"
URL_PATH = "/_evenflow/url/"
_INVOKES = (
    ("invoke", re.compile(r"/2015-03-31/functions/([^/]+)/invocations/?")),
    ("invoke-async", re.compile(r"/2014-11-13/functions/([^/]+)/invoke-async/?")),
    ("invoke-stream", re.compile(r"/2021-11-15/functions/([^/]+)/response-streaming-invocations/?")),
)
# What the Lambda API's paths begin with: the version that an operation came with.
_API_PATH = re.compile(r"/20\d\d-\d\d-\d\d/")
_REMEMBERED = ("invoke", "invoke-async", "invoke-stream", "health")


@dataclass(frozen=True, slots=True)
class Route:
    """A part of the door: "invoke", "invoke-async", "invoke-stream", "api", "package", "url", "health" or "unknown"."""

    operation: str
    path: str
    function_name: str = ""
    qualifier: str = ""


class Routes:
    """Remembers what URLs mean: callers repeat them."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], Route] = {}

    def find(self, method: bytes, url: bytes) -> Route:
        """The part of the door that this request line names."""
        key = (method, url)
        route = self._known.get(key)
        if route is None:
            route = _parse(method, url)
            # Signed URLs never come again, markers and links hardly: only plain ones are worth room.
            if route.operation in _REMEMBERED and b"X-Amz-Signature=" not in url:
                if len(self._known) >= MAX_REMEMBERED_ROUTES:
                    self._known.clear()
                self._known[key] = route
        return route


def _parse(method: bytes, url: bytes) -> Route:
    raw_path, _, query = url.partition(b"?")
    text = raw_path.decode("ascii", "replace")
    if raw_path == HEALTH_PATH and method in (b"GET", b"HEAD"):
        return Route("health", text)
    if method == b"POST":
        for operation, pattern in _INVOKES:
            match = pattern.fullmatch(text)
            if match is not None:
                return Route(operation, text, unquote(match[1]), _arguments(query).get("Qualifier", [""])[0])
    if _API_PATH.match(text):
        return Route("api", text)
    if text.startswith(LINK_PATH) and method in (b"GET", b"HEAD"):
        return Route("package", text)
    if text.startswith(URL_PATH):
        return Route("url", text)
    return Route("unknown", text)


def _arguments(query: bytes) -> dict[str, list[str]]:
    if not query:
        return {}
    try:
        return parse_qs(query.decode("ascii", "replace"), max_num_fields=32)
    except ValueError:
        return {}
