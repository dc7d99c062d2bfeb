"""docs/isolation.md's table and docs/isolation.json, made of a run."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest.bench import machine
from services.runtime.sandbox import landlock
from tests.attacks.attacks import ALL, BY_NUMBER, OTHER_NUMBERS, Attack
from tests.attacks.columns import COLUMNS, Column
from tests.attacks.expected import GAPS
from tests.attacks.verdicts import Runs, Verdict, shown_by, variants_of, worst

DOCS = Path(__file__).parents[2] / "docs"
PAGE, FACTS = DOCS / "isolation.md", DOCS / "isolation.json"
BEGIN, END = "<!-- table: written by make attacks -->", "<!-- end of the table -->"
NOT_SUPPORTED = "not supported"
MAX_EVIDENCE, MAX_EVIDENCE_CHARACTERS = 2, 100
_ALL_SHORT = {"0": "0", "0n": "0 + user namespaces", "a": "a", "b": "b", "c": "c"}


def facts(runs: Runs, command: str) -> dict[str, Any]:
    """Everything, for the JSON."""
    version_2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return {
        "command": command,
        "machine": {
            **machine.describe_host(Path("/tmp")),
            "landlock": landlock.version(),
            "cgroups": 2 if version_2 else 1,
        },
        "columns": {name: _slim(run) for name, run in runs.items()},
    }


def _slim(run: Mapping[str, Any]) -> dict[str, Any]:
    """A sample of the evidence is enough for a page."""
    found = json.loads(json.dumps(run))
    for row in found.get("attacks", {}).values():
        for one in (*row["findings"].values(), *row["controls"].values()):
            one["obtained"] = [_shown(text) for text in one["obtained"][:MAX_EVIDENCE]]
    return dict(found)


def _shown(text: str) -> str:
    """Evidence for everybody: where this machine keeps its user's files is nobody's business."""
    # Not the root of a process, such as /proc/1/root/.
    return re.sub(rf"(?<!\w){re.escape(str(Path.home()))}/", "~/", text)[:MAX_EVIDENCE_CHARACTERS]


def save(found: Mapping[str, Any]) -> None:
    """Write the JSON, and the table into the page."""
    FACTS.write_text(_one_line_a_row(found))
    PAGE.write_text(with_table(PAGE.read_text(), found))


def _one_line_a_row(found: Mapping[str, Any]) -> str:
    """JSON of which a difference between two runs can be read."""
    columns = []
    for name, run in found["columns"].items():
        rest = {key: value for key, value in run.items() if key != "attacks"}
        rows = ",\n".join(f'   "{number}": {_compact(row)}' for number, row in run.get("attacks", {}).items())
        inner = "".join(f'"{key}": {_compact(value)}, ' for key, value in rest.items())
        columns.append(f'  "{name}": {{{inner}"attacks": {{\n{rows}}}}}')
    head = "".join(f' "{key}": {_compact(value)},\n' for key, value in found.items() if key != "columns")
    return "{\n" + head + ' "columns": {\n' + ",\n".join(columns) + "}}\n"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def with_table(page: str, found: Mapping[str, Any]) -> str:
    """The page with the table of these facts. ValueError: it has no place for one."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/isolation.md must have the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{table(found)}{END}{after}"


def table(found: Mapping[str, Any]) -> str:
    """Markdown: where it ran, a table for each network mode, what the words in it stand for."""
    about, runs = found["machine"], found["columns"]
    lines = [
        f"{about['time']}, commit {about['commit']}: Linux {about['kernel']}, Landlock {about['landlock']}, "
        f"cgroups of version {about['cgroups']}, {about['cpu']}, {about['cores']} cores, {about['file_system']}, "
        f"Python {about['python']}. `{found['command']}`",
        "",
    ]
    notes = _Notes()
    for network, title in (("host", "The host's network"), ("isolated", "An isolated network")):
        columns = [column for column in COLUMNS if column.network == network and column.name in runs]
        if columns:
            lines += [f"### {title}", *_network_table(columns, runs, notes), ""]
    lines += ["### What gets through", *notes.lines(), ""]
    lines += ["### Without a plain process to compare with", *_without_control(), ""]
    if reasons := _unsupported(runs):
        lines += ["### Not supported here", *reasons, ""]
    return "\n".join(lines)


class _Notes:
    """Numbers for reasons, in the order in which they come up."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers) + 1)

    def lines(self) -> list[str]:
        return [f"{number}. {text}" for text, number in self._numbers.items()] or ["Nothing that was tried."]


def _network_table(columns: list[Column], runs: Runs, notes: _Notes) -> list[str]:
    titles = [_ALL_SHORT[column.name.removesuffix("-isolated")] for column in columns]
    lines = ["| attack | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    shown = shown_by(runs)
    for attack in ALL:
        cells = [_cell(attack, column, runs[column.name], shown, notes) for column in columns]
        lines.append(f"| {attack.name} | " + " | ".join(cells) + " |")
    worst_p99 = ["-" if (p99 := _worst_p99_ms(runs[column.name])) is None else f"{p99:.0f} ms" for column in columns]
    errors = [_neighbour_errors(runs[column.name]) for column in columns]
    lines.append("| *neighbour's errors* | " + " | ".join(errors) + " |")
    lines.append("| *neighbour's p99, worst attack* | " + " | ".join(worst_p99) + " |")
    return lines


def _cell(attack: Attack, column: Column, run: Mapping[str, Any], shown: set[tuple[int, str]], notes: _Notes) -> str:
    if not run["supported"]:
        return NOT_SUPPORTED
    if not attack.is_tried(column.name):
        return "no templates"
    row = run["attacks"].get(str(attack.number))
    if row is None:
        return "not tried"
    verdicts = variants_of(attack, column, row, shown)
    verdict = worst(verdicts)
    if verdict in (Verdict.STOPPED, Verdict.NOT_SHOWN):
        return str(verdict)
    parts = []
    for one in (Verdict.NOT_STOPPED, Verdict.BY_DESIGN):
        names = [name for name, found in verdicts.items() if found is one]
        if names:
            numbers = sorted({notes.number(_reason(attack, name, column)) for name in names})
            text = f"**{one}**" if one is Verdict.NOT_STOPPED else str(one)
            parts.append(f"{text}: {', '.join(names)} [{', '.join(map(str, numbers))}]")
    return "; ".join(parts)


def _reason(attack: Attack, name: str, column: Column) -> str:
    for gap in GAPS:
        if gap.covers(attack.number, name, column):
            return f"{attack.name}, {', '.join(gap.variants)}: {gap.why}."
    return f"{attack.name}, {name}: a fault. Nothing says that this may be."


def _rows(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(run.get("attacks", {}).values())


def _worst_p99_ms(run: Mapping[str, Any]) -> float | None:
    return max((row["neighbour"]["p99_ms"] for row in _rows(run) if row["neighbour"]["p99_ms"]), default=None)


def _neighbour_errors(run: Mapping[str, Any]) -> str:
    rows = _rows(run)
    if not rows:
        return "-"
    errors, invocations = (sum(row["neighbour"][name] for row in rows) for name in ("errors", "invocations"))
    return f"{errors} of {invocations:,}"


def _unsupported(runs: Runs) -> list[str]:
    return [
        f"- {column.title}: {runs[column.name]['reason']}"
        for column in COLUMNS
        if column.name in runs and not runs[column.name]["supported"]
    ]


def _without_control() -> list[str]:
    lines = []
    for attack in ALL:
        names = [name for name in attack.variants if name not in attack.controls]
        if names:
            whose = f"attack {attack.number}" if 0 < attack.number < OTHER_NUMBERS else attack.title
            which = ", ".join(names) if attack.controls else "all"
            lines.append(f"- {whose} ({which}): {attack.no_control}.")
    return lines


def is_of_this_suite(found: Mapping[str, Any]) -> list[str]:
    """What of the published facts is not what the suite tries today; nothing: they fit."""
    wrong = []
    for name, run in found["columns"].items():
        if not run["supported"]:
            continue
        tried = {int(number) for number in run["attacks"]}
        today = {number for number, attack in BY_NUMBER.items() if attack.is_tried(name)}
        if tried != today:
            wrong.append(f"{name}: attacks {sorted(today ^ tried)}")
        for number in tried & set(BY_NUMBER):
            lacking = set(BY_NUMBER[number].variants) - set(run["attacks"][str(number)]["findings"])
            if lacking:
                wrong.append(f"{name} attack {number}: {sorted(lacking)}")
    return wrong
