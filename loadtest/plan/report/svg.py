"""Plots as inline SVG whose colours are the page's, so that one picture serves light and dark."""

import io
import re
import zlib
from collections.abc import Callable
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

# Stand-ins that matplotlib draws with; the page's own colours take their place.
TEXT, LINE, GROUND = "#010203", "#020304", "#030405"
COLOURS = ("#110001", "#110002", "#110003", "#110004", "#110005", "#110006")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
_NAMES = {
    TEXT: "var(--text)",
    LINE: "var(--line)",
    GROUND: "var(--ground)",
    **{one: f"var(--c{place})" for place, one in enumerate(COLOURS, 1)},
}
# At 390 px, a phone's width, its text is still 10 px high.
_INCHES = (5.2, 3.6)
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "evenflow",
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": LINE,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def draw(told: str, paint: Callable[[Axes], None], x: str, y: str, legend_columns: int = 2) -> str:
    """The SVG of what `paint` puts on the axes. told: for those who cannot see it; x, y: labels with their units.

    The legend stands above the axes, where it hides nothing.
    """
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=_INCHES, layout="constrained")
        axes = figure.add_subplot()
        paint(axes)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        handles, labels = axes.get_legend_handles_labels()
        if labels:
            # What stands for the same in several plans is told once.
            once = dict(zip(labels, handles, strict=True))
            figure.legend(
                list(once.values()), list(once), loc="outside upper left", ncols=legend_columns, handlelength=2.6
            )
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(out.getvalue(), told)


def logarithmic(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 times the powers of ten, written as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(NullLocator())


def _inline(text: str, told: str) -> str:
    svg = text[text.index("<svg") :]
    # Several pictures stand on one page: each one's ids are its own.
    svg = re.sub(r' xmlns:xlink="[^"]*"', "", svg).replace("xlink:href", "href")
    mark = f"p{zlib.crc32(told.encode()):x}"
    svg = re.sub(r'id="([^"]+)"', rf'id="{mark}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{mark}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{mark}-\1)", svg)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
        rf'<svg viewBox="\1" role="img" aria-label="{escape(told)}">',
        svg,
        count=1,
    )
    for stand_in, name in _NAMES.items():
        svg = svg.replace(stand_in, name)
    return svg
