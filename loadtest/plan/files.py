"""The plan's two files: the page for people, and everything behind it as JSON beside it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from loadtest.plan.findings import Findings
from loadtest.plan.measured import FORMAT, Measured
from loadtest.plan.report import page

# A plan of a thousand runs has a tenth of it.
MAX_JSON_BYTES = 200_000_000


class PlanFileError(Exception):
    """The file is not a plan that this version can read; the message says what to do."""


@dataclass(frozen=True, slots=True)
class _Plan:
    measured: Measured
    findings: Findings


_PLAN: TypeAdapter[_Plan] = TypeAdapter(_Plan)


def publishable(measured: Measured) -> Measured:
    """Without what is of this machine alone or secret: access keys, folders."""
    spec = measured.spec
    traffic = replace(spec.traffic, replay=PurePath(spec.traffic.replay).name)
    return replace(measured, spec=replace(spec, keys=(), records="", traffic=traffic))


def as_text(measured: Measured, findings: Findings) -> str:
    """The JSON. ValueError: a figure is not finite."""
    told = {"format": FORMAT, **asdict(_Plan(publishable(measured), findings))}
    return json.dumps(told, indent=1, allow_nan=False) + "\n"


def from_text(text: str) -> tuple[Measured, Findings]:
    """What as_text gave; every sequence comes back as a tuple. PlanFileError: it is something else."""
    try:
        told = json.loads(text)
    except ValueError as e:
        raise PlanFileError(f"it is not JSON ({e}): give the .json that `evenflow plan` wrote") from e
    found = told.get("format") if isinstance(told, Mapping) else None
    if found != FORMAT:
        raise PlanFileError(
            f"its format is {found!r}, this version reads {FORMAT}: make the plan again, or read it with what wrote it"
        )
    try:
        plan = _PLAN.validate_python(_tuples({name: value for name, value in told.items() if name != "format"}))
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PlanFileError(f"{where}: {first['msg']}: it is no plan of `evenflow plan`, or was changed") from e
    return plan.measured, plan.findings


def save(measured: Measured, findings: Findings, path_html: Path) -> Path:
    """Write the page and the JSON beside it, whose path it gives; each file is whole or as it was before.

    ValueError: path_html does not end in .html, or a figure is not finite. OSError: cannot be written.
    """
    if path_html.suffix != ".html":
        raise ValueError(f"{path_html}: the page's name ends in .html")
    kept = publishable(measured)
    path_json = path_html.with_suffix(".json")
    for path, text in ((path_json, as_text(kept, findings)), (path_html, page.write(kept, findings))):
        write_whole(path, text)
    return path_json


def write_whole(path: Path, text: str) -> None:
    """The file is this text, or what it was before. OSError: cannot be written."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)


def load(path_json: Path) -> tuple[Measured, Findings]:
    """What `save` wrote. PlanFileError: it is absent, too large, or something else."""
    try:
        if (size := path_json.stat().st_size) > MAX_JSON_BYTES:
            raise PlanFileError(f"{path_json}: {size:,} bytes; a plan has at most {MAX_JSON_BYTES:,}")
        return from_text(path_json.read_text())
    except OSError as e:
        raise PlanFileError(f"{path_json}: cannot be read: {e.strerror or e}") from e
    except UnicodeDecodeError as e:
        raise PlanFileError(f"{path_json}: cannot be read: it is not text ({e.reason})") from e
    except PlanFileError as e:
        raise e if str(path_json) in str(e) else PlanFileError(f"{path_json}: {e}") from e


def _tuples(told: Any) -> Any:
    # The fields are sequences of no stated kind: a list read would not equal the tuple written.
    if isinstance(told, list):
        return tuple(_tuples(one) for one in told)
    if isinstance(told, dict):
        return {name: _tuples(one) for name, one in told.items()}
    return told
