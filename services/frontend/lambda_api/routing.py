"""From a request line to the operation of the model and the parts of its path."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from services.frontend.lambda_api.shapes import Operation, ServiceModel

MAX_QUERY_FIELDS = 128


@dataclass(frozen=True, slots=True)
class Found:
    """An operation, the labels of its path and the fields of the query, all decoded."""

    operation: Operation
    labels: Mapping[str, str]
    query: Mapping[str, list[str]]


@dataclass(slots=True)
class _Node:
    """One step of the paths: the next steps by their text, the label that takes any text, what ends here by method."""

    steps: dict[str, "_Node"] = field(default_factory=dict)
    label: "_Node | None" = None
    ends: dict[str, list["_End"]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _End:
    """An operation, its labels in order, and the query fields by which it differs from another one of the same path."""

    operation: Operation
    labels: tuple[str, ...]
    fixed: tuple[tuple[str, str], ...]


class Router:
    """Finds operations."""

    def __init__(self, model: ServiceModel) -> None:
        self._root = _Node()
        for operation in model.operations.values():
            self._add(operation)

    def find(self, method: str, url: str) -> Found | None:
        """The operation; None: the model has none there. ValueError: the query has too many fields."""
        path, _, query_text = url.partition("?")
        pairs = parse_qsl(query_text, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
        query: dict[str, list[str]] = {}
        for name, value in pairs:
            query.setdefault(name, []).append(value)
        parts = path.split("/")[1:]
        if len(parts) > 1 and parts[-1] == "":
            # Some clients end paths with a slash.
            parts.pop()
        node, values = self._root, []
        for part in parts:
            step = node.steps.get(part)
            if step is None:
                step = node.label
                values.append(unquote(part))
            if step is None:
                return None
            node = step
        for end in node.ends.get(method, ()):
            if all(value in query.get(name, ()) for name, value in end.fixed):
                return Found(end.operation, dict(zip(end.labels, values, strict=True)), query)
        return None

    def _add(self, operation: Operation) -> None:
        path, _, query = operation.uri.partition("?")
        node, labels = self._root, []
        for part in path.split("/")[1:]:
            if part.startswith("{"):
                labels.append(part.strip("{}+"))
                node.label = node.label or _Node()
                node = node.label
            else:
                node = node.steps.setdefault(part, _Node())
        ends = node.ends.setdefault(operation.method, [])
        ends.append(_End(operation, tuple(labels), tuple(parse_qsl(query))))
        # The one that asks for more comes first.
        ends.sort(key=lambda end: -len(end.fixed))


def names_of(operations: Iterable[Operation]) -> list[str]:
    """Their names, sorted."""
    return sorted(operation.name for operation in operations)
