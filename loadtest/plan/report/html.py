"""The few pieces of HTML that the pages are made of. Every text that comes in is escaped."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from loadtest.bench.stats import shown
from loadtest.plan.intervals import HeldOut, Interval

# Colours: Okabe and Ito's palette, told apart by colour-blind readers, lighter on the dark ground. Plots name them.
_STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --raised: #f4f6f8; --text: #1b1f24; --soft: #57606a;
  --line: #d5dae0; --shade: rgb(0 0 0 / .28); --good: #00664b; --bad: #a33f00;
  --c1: #0072b2; --c2: #d55e00; --c3: #009e73; --c4: #b0618c; --c5: #b07a00; --c6: #3e94c4; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171b; --raised: #1d2127; --text: #e6e9ed; --soft: #a2abb5;
  --line: #363d46; --shade: rgb(255 255 255 / .3); --good: #4fd1a5; --bad: #ff9a5c;
  --c1: #57a9e2; --c2: #ff8a3d; --c3: #2fc79b; --c4: #e094bd; --c5: #f0b72f; --c6: #8fd0f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; } p { margin: .4rem 0; max-width: 72ch; } .soft { color: var(--soft); }
.box p { max-width: 100ch; }
.box { background: var(--raised); border: 1px solid var(--line); border-radius: .5rem; padding: .9rem 1.1rem; }
.big { font-size: 1.7rem; font-weight: 650; line-height: 1.2; margin: 0 0 .3rem; max-width: none; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1rem; }
figure { margin: 0; padding: .8rem; border: 1px solid var(--line); border-radius: .5rem; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; } figcaption { font-size: .9rem; color: var(--soft); }
svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif !important; }
/* A shade at an edge behind which there is more; at the table's own end the ground covers it. */
.wide { overflow-x: auto; scrollbar-width: thin; background:
  linear-gradient(to right, var(--ground) 40%, transparent) 0 0 / 2.5rem 100% no-repeat local,
  linear-gradient(to left, var(--ground) 40%, transparent) 100% 0 / 2.5rem 100% no-repeat local,
  linear-gradient(to right, var(--shade), transparent) 0 0 / .8rem 100% no-repeat scroll,
  linear-gradient(to left, var(--shade), transparent) 100% 0 / .8rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; text-align: left; }
th { font-weight: 600; vertical-align: bottom; } td { min-width: 3rem; }
.number { text-align: right; }
td.number, td:first-child { white-space: nowrap; } th.number { min-width: 4rem; }
td.words { min-width: 14rem; } ul { padding-left: 1.2rem; margin: .4rem 0; max-width: 72ch; }
details summary { cursor: pointer; margin: .4rem 0; }
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of its own kind: "number" to the right, "words" wide, "good", "bad" or "soft" coloured."""

    text: str
    kind: str = ""


Row = Sequence[str | Cell]


def page(title: str, body: str) -> str:
    """The whole file."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def heading(text: str, level: int = 2) -> str:
    """Of a part."""
    return f"<h{level}>{escape(text)}</h{level}>\n"


def paragraph(text: str, kind: str = "") -> str:
    """Of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>\n' if kind else f"<p>{escape(text)}</p>\n"


def box(*parts: str) -> str:
    """Raised from the page; the parts are HTML."""
    return f'<div class="box">{"".join(parts)}</div>\n'


def bullets(lines: Sequence[str]) -> str:
    """A list of plain texts."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>\n"


def folded(summary: str, body: str) -> str:
    """HTML that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>\n"


def figure(title: str, svg: str, caption: str) -> str:
    """A plot with its title above and what to read from it below."""
    return f"<figure><h3>{escape(title)}</h3>{svg}<figcaption>{escape(caption)}</figcaption></figure>\n"


def plots(figures: Sequence[str]) -> str:
    """Figures, side by side where there is room."""
    return f'<div class="plots">{"".join(figures)}</div>\n'


def table(head: Sequence[str], rows: Sequence[Row]) -> str:
    """A table that scrolls by itself on a narrow screen. Columns whose first cell is a number are right-aligned."""
    first = rows[0] if rows else ()
    kinds = ["number" if isinstance(one, Cell) and "number" in one.kind.split() else "" for one in first]
    names = "".join(
        f'<th class="{kind}">{escape(name)}</th>'
        for name, kind in zip(head, [*kinds, *[""] * (len(head) - len(kinds))], strict=True)
    )
    # A short row, of sums, is filled up: its line goes through to the end.
    full = [[*row, *[""] * (len(head) - len(row))] for row in rows]
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in full)
    return f'<div class="wide"><table><thead><tr>{names}</tr></thead><tbody>\n{lines}</tbody></table></div>\n'


def digits(value: float) -> str:
    """A figure for people that does not round a small one to nothing."""
    return shown(value) if value == 0 or abs(value) >= 0.1 else f"{value:.2g}"


def number(value: float | None, unit: str = "", missing: str = "-") -> Cell:
    """A figure; None: `missing`."""
    return Cell(missing if value is None else digits(value) + unit, "number")


def percent(part: float | None, sign: bool = False) -> Cell:
    """A part of 1 as per cent; sign: with + or -."""
    if part is None:
        return Cell("-", "number")
    return Cell(f"{100 * part:{'+' if sign else ''}.1f} %", "number")


def between(interval: Interval | None, times: float = 1.0, missing: str = "-") -> Cell:
    """An interval, its ends multiplied by `times`."""
    text = missing if interval is None else f"{digits(interval.low * times)} to {digits(interval.high * times)}"
    return Cell(text, "number")


def error(held_out: HeldOut | None) -> Cell:
    """A held-out error: the median and the largest."""
    text = "-" if held_out is None else f"{100 * held_out.median:.1f} %, at most {100 * held_out.largest:.1f} %"
    return Cell(text, "number")


def yes_no(is_so: bool) -> Cell:
    """Good or bad."""
    return Cell("yes", "good") if is_so else Cell("no", "bad")


def _cell(cell: str | Cell) -> str:
    text, kind = (cell, "") if isinstance(cell, str) else (cell.text, cell.kind)
    return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"
