"""Which operation of the Lambda API a request names."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

MAX_REMEMBERED_ROUTES = 4_096
HEALTH_PATH = b"/_evenflow/health"
_INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations/?")
_OLD_INVOKE = re.compile(r"/2014-11-13/functions/([^/]+)/invoke-async/?")
# The versions that the Lambda API's paths begin with: what lies below them is an operation that is not offered.
_LAMBDA_PATH = re.compile(r"/20\d\d-\d\d-\d\d/(functions|event-source-mappings|layers|tags|account-settings)(/|$)")


@dataclass(frozen=True, slots=True)
class Route:
    """An operation: "invoke", "invoke-async", "health", "not-offered" or "unknown"."""

    operation: str
    path: str
    function_name: str = ""
    qualifier: str = ""


class Routes:
    """Remembers what URLs mean: callers repeat them."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], Route] = {}

    def find(self, method: bytes, url: bytes) -> Route:
        """The operation of this request line."""
        key = (method, url)
        route = self._known.get(key)
        if route is None:
            route = _parse(method, url)
            # Signed URLs never come again: only plain ones are worth room.
            if b"X-Amz-Signature=" not in url:
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
        for operation, pattern in (("invoke", _INVOKE), ("invoke-async", _OLD_INVOKE)):
            match = pattern.fullmatch(text)
            if match is not None:
                arguments = parse_qs(query.decode("ascii", "replace"), max_num_fields=32) if query else {}
                return Route(operation, text, unquote(match[1]), arguments.get("Qualifier", [""])[0])
    return Route("not-offered" if _LAMBDA_PATH.match(text) else "unknown", text)
