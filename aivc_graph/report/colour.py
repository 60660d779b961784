"""Colours of the page: lettering that is read on any ground, and tables shaded by value."""

from __future__ import annotations

import math

ORANGE, BLUE = (230, 97, 1), (26, 95, 180)  # apart for colour-blind readers, and either side of white
STRONGEST = 0.75


def ink_on(ground: str) -> str:
    """Return black or white, whichever stands out more on a colour such as ``#0072B2``."""
    return max(("#000000", "#FFFFFF"), key=lambda ink: contrast(ink, ground))


def contrast(a: str, b: str) -> float:
    """Return the contrast of two colours, 1 to 21, as WCAG 2 defines it (https://www.w3.org/TR/WCAG22/)."""
    light, dark = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def shade(value: float, top: float) -> str:
    """Return the ground of a table's cell: white at 0, orange towards `top`, blue towards −`top`."""
    if not math.isfinite(value) or top <= 0:
        return "#FFFFFF"
    share = STRONGEST * min(abs(value) / top, 1.0)
    towards = ORANGE if value > 0 else BLUE
    return "#" + "".join(f"{round(255 + share * (part - 255)):02X}" for part in towards)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
