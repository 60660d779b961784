"""Whether labels say anything about the counts they stand beside; those of another section say nothing."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from aivc_graph import names
from aivc_graph.tissue.section import metadata_of

ENOUGH, MOST = 100, 20_000
# A ratio of variances that unrelated labels stay below even where a few programmes move all genes together.
UNRELATED = 1.3
SEVERAL, HARDLY = 20, 0.05
# What annotators call nodes of which they could not tell the type.
_UNKNOWN = re.compile(
    r"(?i)^(unknown|un(assigned|classified|determined|defined|labell?ed|annotated)|ambiguous|doublets?|multiplets?"
    r"|low[ _-]?quality|debris|artefacts?|artifacts?|n/?a)$"
)


def variance_ratio(counts: sparse.csr_matrix, labels: np.ndarray) -> float:
    r"""Return the variance between labels over that within, pooled over genes: 1 for labels at random.

    .. math::

        F = \frac{\sum_g \sum_k n_k (\bar x_{kg} - \bar x_g)^2 / (K - 1)}
                 {\sum_g \sum_i (x_{ig} - \bar x_{k_i g})^2 / (N - K)}

    with :math:`x` the log of counts per 10,000 plus one. Invariant to the order of nodes and of genes.

    Parameters
    ----------
    counts
        ``(node, gene)``.
    labels
        ``(node,)``, at least two different ones.
    """
    depth = np.asarray(counts.sum(axis=1)).ravel()
    x = sparse.csr_matrix(sparse.diags(1e4 / np.maximum(depth, 1)) @ counts)
    x.data = np.log1p(x.data)
    codes, kinds = pd.factorize(labels)
    n, k = len(codes), len(kinds)
    member = sparse.csr_matrix((np.ones(n), (codes, np.arange(n))), (k, n))
    of_label = np.bincount(codes, minlength=k)[:, None]
    sums = (member @ x).toarray()
    around_zero = float((sums**2 / of_label).sum())
    between = around_zero - float((sums.sum(axis=0) ** 2).sum()) / n
    within = float((x.data**2).sum()) - around_zero
    return (between / (k - 1)) / max(within / (n - k), 1e-12)


def check_labels(section: Any) -> list[str]:
    """Compare the labels of each level with its counts; return which say nothing about them, and which are no types.

    Only where at least a hundred nodes of two labels or more were counted: fewer cannot tell. Of a large level some
    20,000 nodes, evenly spaced, are enough.
    """
    warnings = []
    for level in names.LEVELS:
        if level in section.shapes and names.LABEL in section.shapes[level]:
            told = _no_types(section.shapes[level][names.LABEL])
            warnings += [f"{metadata_of(section)['section']} · {level} · label: {one}" for one in told]
        key = names.table_name(level, names.RNA)
        if level not in section.shapes or names.LABEL not in section.shapes[level] or key not in section.tables:
            continue
        table = section.tables[key]
        labels = section.shapes[level][names.LABEL].reindex(table.obs[names.BARCODE]).to_numpy()
        counts = sparse.csr_matrix(table.X)
        rows = np.flatnonzero(~pd.isna(labels) & (np.asarray(counts.sum(axis=1)).ravel() > 0))
        rows = rows[:: max(1, len(rows) // MOST)]
        kinds = len(pd.unique(labels[rows]))
        if len(rows) < ENOUGH or not 2 <= kinds <= len(rows) / 2:
            continue
        ratio = variance_ratio(counts[rows], labels[rows])
        if ratio < UNRELATED:
            found = f"genes differ {ratio:.2g} times as much between the {kinds} labels as within (1 is chance)"
            warnings.append(f"{metadata_of(section)['section']} · {level} · label: {found}; are they of this section?")
    return warnings


def _no_types(labels: pd.Series) -> list[str]:
    """Say whether hardly any node bears a label, which name what nobody knew, and whether most name one node alone."""
    told, every, labels = [], len(labels), labels.dropna().astype(str)
    if 0 < len(labels) < HARDLY * every:
        told.append(f"{len(labels):,} of {every:,} nodes bear one; what is told of types rests on these")
    unknown = labels[labels.str.match(_UNKNOWN)]
    if len(unknown):
        which = ", ".join(map(repr, sorted(unknown.unique())))
        mend = "leave them out by `keep:`, or give them no label"
        told.append(f"{len(unknown):,} nodes labelled {which}, which is taken for a type like others; {mend}")
    if len(labels) >= SEVERAL and (kinds := labels.nunique()) > len(labels) / 2:
        told.append(f"{kinds:,} labels of {len(labels):,} nodes; names or scores are no types: name another column")
    return told


def types_of(section: Any, level: str) -> list[str]:
    """Return the names of types that the labels of a level give, in order; none without labels."""
    shapes = section.shapes[level]
    found = set() if names.LABEL not in shapes else set(shapes[names.LABEL].dropna().astype(str))
    return sorted(found - set(names.NO_LABEL))
