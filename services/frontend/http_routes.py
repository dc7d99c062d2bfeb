"""Which part of the HTTP door a request line names."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

from services.frontend.lambda_api.links import LINK_PATH
from services.frontend.lambda_api.validation import MAX_TOLD_CHARACTERS

MAX_REMEMBERED_ROUTES = 4_096
HEALTH_PATH = b"/_evenflow/health"
URL_PATH = "/_evenflow/url/"
_INVOKES = (
    ("invoke", re.compile(r"/2015-03-31/functions/([^/]+)/invocations/?")),
    ("invoke-async", re.compile(r"/2014-11-13/functions/([^/]+)/invoke-async/?")),
    ("invoke-stream", re.compile(r"/2021-11-15/functions/([^/]+)/response-streaming-invocations/?")),
)
# As the model has it (NamespacedFunctionName); loading the model takes longer than the first invocation may wait.
FUNCTION_NAME_PATTERN = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?"
    r"([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
MAX_FUNCTION_NAME_CHARACTERS = 256
_FUNCTION_NAME = re.compile(FUNCTION_NAME_PATTERN, re.ASCII)
# What the Lambda API's paths begin with: the version that an operation came with.
_API_PATH = re.compile(r"/20\d\d-\d\d-\d\d/")
_REMEMBERED = ("invoke", "invoke-async", "invoke-stream", "health")


@dataclass(frozen=True, slots=True)
class Route:
    """A part of the door: "invoke", "invoke-async", "invoke-stream", "api", "package", "url", "health" or "unknown".

    `wrong`: how the function's name breaks the model's bounds, in AWS's words; empty: it does not.
    """

    operation: str
    path: str
    function_name: str = ""
    qualifier: str = ""
    wrong: str = ""


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
                name, qualifier = unquote(match[1]), _arguments(query).get("Qualifier", [""])[0]
                return Route(operation, text, name, qualifier, _wrong(name))
    if _API_PATH.match(text):
        return Route("api", text)
    if text.startswith(LINK_PATH) and method in (b"GET", b"HEAD"):
        return Route("package", text)
    if text.startswith(URL_PATH):
        return Route("url", text)
    return Route("unknown", text)


def _wrong(name: str) -> str:
    if len(name) > MAX_FUNCTION_NAME_CHARACTERS:
        constraint = f"Member must have length less than or equal to {MAX_FUNCTION_NAME_CHARACTERS}"
    elif not _FUNCTION_NAME.fullmatch(name):
        constraint = f"Member must satisfy regular expression pattern: {FUNCTION_NAME_PATTERN}"
    else:
        return ""
    told = name[:MAX_TOLD_CHARACTERS]
    return f"1 validation error detected: Value '{told}' at 'functionName' failed to satisfy constraint: {constraint}"


def _arguments(query: bytes) -> dict[str, list[str]]:
    if not query:
        return {}
    try:
        return parse_qs(query.decode("ascii", "replace"), max_num_fields=32)
    except ValueError:
        return {}
