"""Spans as a tree: who is whose child, in order of time. Pure, but for printing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text
from rich.tree import Tree

from cli.output import span_of_ms

Span = dict[str, Any]
MAX_SHOWN = 2_000
# What a line shows of a span's attributes, and under which word.
_SHOWN = (
    ("faas.name", ""),
    ("evenflow.attempt", "attempt "),
    ("evenflow.shard_id", "shard "),
    ("evenflow.sandbox_id", "sandbox "),
    ("action", ""),
)


@dataclass(slots=True)
class Branch:
    """One span and what happened below it."""

    span: Span
    children: list["Branch"] = field(default_factory=list)


def build(spans: Iterable[Span]) -> list[Branch]:
    """The roots, oldest first; a span whose parent is not there (yet, or not ours) is a root."""
    by_id = {span["span_id"]: Branch(span) for span in spans}
    roots = []
    for branch in by_id.values():
        parent = by_id.get(branch.span["parent_id"])
        if parent is None or parent is branch:
            roots.append(branch)
        else:
            parent.children.append(branch)
    for branch in by_id.values():
        branch.children.sort(key=_order)
    return sorted(roots, key=_order)


def walk(branches: Iterable[Branch], parent: Branch | None = None) -> Iterator[tuple[Branch | None, Branch]]:
    """Every (parent, branch), depth first."""
    waiting = [(parent, branch) for branch in branches]
    while waiting:
        above, branch = waiting.pop(0)
        yield above, branch
        waiting[:0] = [(branch, child) for child in branch.children]


def render(roots: list[Branch]) -> Tree:
    """The tree for a terminal: name, node, duration, when it began after the first span."""
    begin_ns = min(root.span["start_unix_nano"] for root in roots)
    end_ns = max(branch.span["end_unix_nano"] for _, branch in walk(roots))
    trace_id = roots[0].span["trace_id"]
    count = sum(1 for _ in walk(roots))
    top = Tree(Text.assemble(("trace ", "bold"), trace_id, f"  {span_of_ms((end_ns - begin_ns) / 1e6)}, {count} spans"))
    shown = 0

    def add(to: Tree, branch: Branch) -> None:
        nonlocal shown
        shown += 1
        if shown > MAX_SHOWN:
            return
        below = to.add(_line(branch.span, begin_ns))
        for child in branch.children:
            add(below, child)

    for root in roots:
        add(top, root)
    if shown > MAX_SHOWN:
        top.add(Text(f"... and {shown - MAX_SHOWN} more spans: --json shows them"))
    return top


def _order(branch: Branch) -> tuple[int, int]:
    return branch.span["start_unix_nano"], branch.span["end_unix_nano"]


def _line(span: Span, begin_ns: int) -> Text:
    duration_ms = (span["end_unix_nano"] - span["start_unix_nano"]) / 1e6
    after_ms = (span["start_unix_nano"] - begin_ns) / 1e6
    error = span.get("error")
    line = Text()
    line.append(span["name"], style="bold red" if error else "bold cyan")
    line.append(f"  {span_of_ms(duration_ms)}", style="green")
    line.append(f"  +{span_of_ms(after_ms)}" if after_ms >= 0 else f"  -{span_of_ms(-after_ms)}", style="dim")
    line.append(f"  {span['node']}")
    attributes = span.get("attributes", {})
    words = [f"{word}{attributes[key]}" for key, word in _SHOWN if attributes.get(key) not in (None, "")]
    if attributes.get("faas.coldstart"):
        words.append("cold start")
    if words:
        line.append("  " + ", ".join(words), style="dim")
    if error:
        line.append(f"  {error}", style="red")
    return line
