"""Colours that stay apart for colour-blind readers, and in grey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

# Okabe & Ito's eight without black, then the muted set of Tol; order puts the most distinct first.
COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#332288",
    "#999933",
    "#882255",
    "#44AA99",
    "#AA4499",
)
UNKNOWN = "#BBBBBB"
SHADES = (0.0, -0.45, 0.55)  # shares of the way to black (negative) or white


def colours_of(labels: ArrayLike, order: Sequence[Any] | None = None) -> dict[Any, str]:
    """Return label → colour, in `order` or sorted; missing labels (None, NaN) are grey.

    After twelve the colours come again darkened, then lightened; from 37 labels on they repeat.

    References
    ----------
    Okabe & Ito 2008, Color Universal Design; Tol 2021, Colour schemes (technical note SRON/EPS/TN/09-002).
    """
    present = {label for label in np.asarray(labels, dtype=object).ravel() if label is not None and label == label}
    ordered = list(order) if order is not None else sorted(present, key=lambda label: (str(type(label)), label))
    return {label: nth_colour(i) for i, label in enumerate(ordered)}


def niche_colours(niches: Sequence[str]) -> list[str]:
    """Return the colour of each niche: by its number, whichever others there are, or of names in their order.

    Examples
    --------
    >>> niche_colours(["10", "2"]) == [nth_colour(9), nth_colour(1)]
    True
    """
    numbered = all(one.isdecimal() and int(one) for one in niches)
    return [nth_colour(int(one) - 1 if numbered else i) for i, one in enumerate(niches)]


def nth_colour(i: int) -> str:
    """Return the colour of the `i`-th label, counted from 0."""
    base, shade = COLOURS[i % len(COLOURS)], SHADES[i // len(COLOURS) % len(SHADES)]
    towards = 0 if shade < 0 else 255
    parts = (int(base[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(part + abs(shade) * (towards - part)):02X}" for part in parts)
