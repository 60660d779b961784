"""From contents to HTML: every name is escaped, a missing value is an error and never an empty place."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from aivc_graph.report.colour import shade
from aivc_graph.report.overview import WIDTH as OVERVIEW_WIDTH
from aivc_graph.report.scores import QUESTIONS, WIDTH
from aivc_graph.report.words import plural, words

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str = "report.html", **contents: Any) -> str:
    """Return the page that tells `contents`, the keys of `aivc_graph.report.write.contents`."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": count, "percent": percent, "number": number, "signed": signed, "words": words}
    environment.globals |= {"shade": shade, "plural": plural, "questions": QUESTIONS, "forest_width": WIDTH}
    environment.globals["overview_width"] = OVERVIEW_WIDTH
    return environment.get_template(template).render(**contents)


def count(value: float) -> str:
    """Return a whole number with thousands apart."""
    return f"{value:,.0f}"


def percent(value: float) -> str:
    """Return a share as per cent; one decimal below ten."""
    return "–" if not math.isfinite(value) else f"{100 * value:.{1 if value < 0.0995 else 0}f}\N{NO-BREAK SPACE}%"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number to so many significant digits, never as a power of ten; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{min(decimals, 6)}f}".replace("-", "−")


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign."""
    return "–" if not math.isfinite(value) else f"{value:+.{digits}f}".replace("-", "−")
