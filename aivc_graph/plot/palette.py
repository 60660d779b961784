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


def colours_of(labels: ArrayLike, order: Sequence[Any] | None = None) -> dict[Any, str]:
    """Return label → colour, in `order` or sorted; missing labels (None, NaN) are grey; colours repeat after twelve.

    References
    ----------
    Okabe & Ito 2008, Color Universal Design; Tol 2021, Colour schemes (technical note SRON/EPS/TN/09-002).
    """
    present = {label for label in np.asarray(labels, dtype=object).ravel() if label is not None and label == label}
    ordered = list(order) if order is not None else sorted(present, key=lambda label: (str(type(label)), label))
    return {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(ordered)}
