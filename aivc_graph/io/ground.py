"""Whether the nodes of a file are one piece of tissue: no sections, or planes, that lie on top of each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.naming import names_of
from aivc_graph.tissue.registration.overlap import POOR, shared_ground

ARRAY = ("array_row", "array_col")
# Columns that tell sections, fields or planes apart, whatever stands before or behind the word.
GROUP = re.compile(
    r"(?i)^(?:\w*[._ ])?(?:(?:library|sample|section|slide|slice|batch|donor|patient|subject|mouse|animal|replicate"
    r"|dataset|image|fov|roi|core|plane|bregma|capture_area|orig\.ident|puck|specimen|acquisition)"
    r"(?:[_ ]?(?:id|name|key|no|number|label|numeric))*"
    r"|(?:run|tissue|region|block|chip|experiment)[_ ]?(?:id|name|no|number))$"
)
# What a name is made of: a barcode of nucleotides, or fields between these signs.
_BARCODE, _LAST = re.compile(r"[ACGTN]{8,}"), re.compile(r"[-_:#|.][^-_:#|.]*$")
_MIN_GROUP, _MAX_GROUPS = 10, 100
_THICK_UM = 20.0
_TWICE = 0.01


def check_one_ground(rows: pd.Index, columns: pd.DataFrame, xy: NDArray[np.float64], where: str) -> None:
    """Doubt that nodes ``(node, 2)`` are one section where groups by a column or by name share their ground."""
    for column, what, labels in _groups(rows, columns):
        pair = _on_one_ground(labels, xy)
        if pair is not None:
            a, b, share = pair
            mend = "are these several sections, or fields of view in frames of their own? Read one at a time"
            way = ", from a file of its own"
            if column is not None:
                way = f", by `keep: {{{column}: {a}}}` or all by `sections_by: {column}`"
            found = f"{share:.0%} of the nodes {a!r} and {b!r} (by {what}) lie on the same ground"
            doubt(where, found, "one piece of tissue a section", mend + way)
            return
    if set(ARRAY) <= set(columns) and (twice := int(columns.duplicated(list(ARRAY)).sum())) > _TWICE * len(columns):
        found = f"{twice:,} of {len(columns):,} nodes on a place of the array ({', '.join(ARRAY)}) that another has"
        mend = "are these several sections? part them by `sections_by:`, the column that tells them apart"
        doubt(where, found, "one node a place", mend)


def section_column(rows: pd.Index, columns: pd.DataFrame) -> str | None:
    """Return a column that tells sections apart by its name, within which no name of `rows` repeats."""
    names = np.asarray(rows.astype(str))
    for column in (str(name) for name in columns if GROUP.match(str(name))):
        by = names_of(columns[column])
        if len(set(by)) > 1 and not pd.DataFrame({"row": names, "by": by}).duplicated().any():
            return column
    return None


def check_one_plane(z_um: NDArray[np.float64], where: str) -> None:
    """Doubt that nodes at heights `z_um` ``(node,)`` [µm] lie in one plane, as a section's do."""
    span = float(np.ptp(z_um[np.isfinite(z_um)])) if np.isfinite(z_um).any() else 0.0
    if span > _THICK_UM:
        found = f"heights over {span:,.4g} µm, which are dropped: what lies above another is taken for its neighbour"
        mend = "give a plane at a time, from a file of its own or by `keep:` where a column names it"
        doubt(f"{where} · z", found, f"one plane of tissue (≤ {_THICK_UM:g} µm)", mend)


def _groups(rows: pd.Index, columns: pd.DataFrame) -> Iterator[tuple[str | None, str, NDArray[Any]]]:
    """Yield ways to part nodes: the column, if it is one, what it is called, and the label of each node."""
    for name in columns:
        if GROUP.match(str(name)):
            yield str(name), f"column {name!r}", names_of(columns[name])
    text = pd.Series(rows.astype(str))
    yield None, "the end of their names", text.str.extract(r"[-_:#|.]([A-Za-z0-9]{1,12})$")[0].to_numpy()
    yield None, "the start of their names", text.str.extract(r"^([A-Za-z0-9]{1,24})[-_:#|.]")[0].to_numpy()
    yield None, "what stands around their barcode", text.str.replace(_BARCODE, "…", regex=True).to_numpy()
    yield None, "their names but the last part", text.str.replace(_LAST, "", regex=True).to_numpy()


def _on_one_ground(labels: NDArray[Any], xy: NDArray[np.float64]) -> tuple[str, str, float] | None:
    """Return the first two groups that share more than half of their ground, and how much."""
    known = pd.Series(labels)
    sizes = known.value_counts()
    large = sorted(map(str, sizes.index[sizes >= _MIN_GROUP]))
    if not 2 <= len(large) <= _MAX_GROUPS:
        return None
    places = {name: xy[(known.astype(str) == name).to_numpy()] for name in large}
    boxes = {name: (place.min(axis=0), place.max(axis=0)) for name, place in places.items()}
    for a, b in combinations(large, 2):
        low, high = (np.stack(edges) for edges in zip(boxes[a], boxes[b], strict=True))
        if (high.min(axis=0) >= low.max(axis=0)).all():
            share = shared_ground(places[a], places[b])
            if share > POOR:
                return a, b, share
    return None
