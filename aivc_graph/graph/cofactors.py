"""Cofactors of intensities: where arcsinh turns from linear to logarithmic, marker by marker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.errors import GraphError, unknown_name
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.tissue.evenly import evenly

Floats = NDArray[np.floating[Any]]
# Shares of the values of a marker that its cofactor may lie at, and values that are looked at.
QUANTILES = np.linspace(0.02, 0.98, 17)
MOST_VALUES = 20_000


def cofactor_name(modality: str) -> str:
    """Return the attribute of a level that holds the cofactor of each marker, such as ``intensity_cofactor``."""
    return f"{modality}_cofactor"


def add_cofactors(graph: TissueGraph, level: str, modality: str, given: float | Mapping[str, float] | None) -> None:
    """Give a level the cofactors (marker,) of its intensities: those `given`, others as training nodes say.

    Raises
    ------
    GraphError
        A cofactor of a marker that no level measured.
    """
    markers, store = pd.Index(graph[level][f"{modality}_names"]), graph[level]
    measured = store[names.mask_name(modality)].numpy()
    training = measured & graph.in_split(level, names.TRAIN).numpy()
    rows = np.flatnonzero(training if training.any() else measured)
    fixed = dict.fromkeys(markers, given) if isinstance(given, int | float) else dict(given or {})
    for name in fixed:
        if name not in markers:
            raise unknown_name(GraphError, "graph.cofactor", "marker", name, markers)
    found = fitted_cofactors(store[modality].numpy()[rows], store.section_index.numpy()[rows])
    chosen = [fixed.get(name, one) for name, one in zip(markers, found, strict=True)]
    store[cofactor_name(modality)] = torch.tensor(chosen, dtype=torch.float32)


def fitted_cofactors(values: Floats, section: NDArray[np.integer[Any]]) -> Floats:
    r"""Return for each marker (marker,) the cofactor c by which its arcsinh is most nearly normal within sections.

    That of largest likelihood,

    .. math:: -\tfrac n2 \log \operatorname{var}\operatorname{arcsinh}(y / c) - \tfrac12 \sum_i \log(c^2 + y_i^2),

    among quantiles of the values that are not zero; those alone are looked at, since a value that many cells share
    would be fitted best by no scale at all. One where a marker has fewer than ten of them.

    Parameters
    ----------
    values
        (node, marker); NaN was not measured.
    section
        (node,)

    References
    ----------
    Burbidge, Magee & Robb 1988, doi:10.1080/01621459.1988.10478575 (likelihood of the inverse hyperbolic sine).

    Examples
    --------
    >>> y = 3 * np.sinh(np.random.default_rng(0).normal(1.0, 1.0, (5000, 1)))
    >>> bool(2 < fitted_cofactors(y, np.zeros(5000, int))[0] < 4.5)
    True
    """
    some = evenly(len(values), MOST_VALUES)
    found = np.ones(values.shape[1])
    for j, column in enumerate(np.asarray(values, np.float64)[some].T):
        there = np.isfinite(column) & (column != 0)
        if there.sum() >= 10:
            found[j] = _likeliest(column[there], np.unique(section[some][there], return_inverse=True)[1].reshape(-1))
    return found


def _likeliest(y: Floats, section: NDArray[np.integer[Any]]) -> float:
    number, best, chosen = np.bincount(section), -np.inf, 1.0
    for cofactor in np.unique(np.quantile(np.abs(y), QUANTILES)):
        terms = np.arcsinh(y / cofactor)
        away = terms - (np.bincount(section, terms) / number)[section]
        spread = max(float((away**2).mean()), 1e-12)
        told = -0.5 * len(y) * np.log(spread) - 0.5 * float(np.log(cofactor**2 + y**2).sum())
        if told > best:
            best, chosen = told, float(cofactor)
    return chosen
