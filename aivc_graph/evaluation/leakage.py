"""How much of what is scored training has seen: whole donors, and the very same counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.splits.copies import row_hashes

GROUPS = ("donor", "site", "platform", "batch")
MEASURE = "share of the scored nodes whose donor, or whose very counts, training saw too"


def leakage(
    donor: NDArray[np.generic], train: NDArray[np.bool_], asked: NDArray[np.bool_], counts: sparse.csr_matrix | None
) -> dict[str, float]:
    """Return shares of the asked nodes, each 0–1.

    ``donors``: their donor has training nodes too; ``duplicates``: a training node has the same counts, where at least
    ten features were seen; ``any``: either.
    """
    n = max(int(asked.sum()), 1)
    shared = np.isin(donor[asked], np.unique(donor[train]))
    twice = np.zeros(len(shared), bool)
    if counts is not None:
        mark, enough = row_hashes(counts.copy(), range(counts.shape[1]))
        twice = enough[asked] & np.isin(mark[asked], mark[train & enough])
    found = {"donors": shared, "duplicates": twice, "any": shared | twice}
    return {name: round(float(rows.sum() / n), 6) for name, rows in found.items()}


def group_overlap(
    sections: pd.DataFrame, section: NDArray[np.integer], train: NDArray[np.bool_], asked: NDArray[np.bool_]
) -> dict[str, float]:
    """Return by kind of group, such as ``donor``, the share (0–1) of asked nodes whose group has training nodes too.

    Parameters
    ----------
    sections
        A row a section: ``donor``, ``site``, ``platform``, ``batch``, as far as given.
    section
        Row of each node's section (node,).
    train, asked
        The sides (node,).
    """
    kinds: dict[str, NDArray[np.generic]] = {"section": np.arange(len(sections)).astype(str)}
    for kind in GROUPS:
        if kind in sections and sections[kind].notna().any():
            kinds[kind] = sections[kind].fillna("").astype(str).to_numpy(str)
    found = {}
    for kind, group in kinds.items():
        trained = np.setdiff1d(group[section[train]], [""])
        found[kind] = round(float(np.isin(group[section[asked]], trained).mean()), 6) if asked.any() else 0.0
    return found
