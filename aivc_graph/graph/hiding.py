"""Take observations away from a graph, so that what is asked cannot be looked up, not even in a section's mean."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.graph.profiles import add_section_profiles
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr

# Constants of training that a section's own observations must not move, and that are no part of an answer.
_KEPT = ("_depth", "_common")


def hide_observations(graph: TissueGraph, hidden: Mapping[tuple[str, str], NDArray[np.bool_]]) -> TissueGraph:
    """Return a graph in which the observations of the `hidden` nodes were never made; `graph` itself is not changed.

    Their counts, features or labels are gone, their mask says so, and the profiles of sections are those of what is
    left: a section hidden whole is described by the mean of the others.

    Parameters
    ----------
    hidden
        (level, modality) → who loses it (node,); ``type`` are their labels.
    """
    left = copy.copy(graph)
    for (level, modality), rows in hidden.items():
        if modality == names.TYPE and names.LABEL in graph.obs(level):
            obs = graph.obs(level)
            left[level].obs = obs.assign(**{names.LABEL: obs[names.LABEL].astype(object).where(~rows, None)})
        if names.mask_name(modality) not in graph[level]:
            continue
        keep = ~rows
        left[level][names.mask_name(modality)] = graph[level][names.mask_name(modality)] & torch.from_numpy(keep)
        if modality in names.MOLECULE_OF:
            relation = (names.MOLECULE_OF[modality], names.OBSERVED_IN, level)
            counts = sparse.diags(keep.astype(np.float32)) @ to_scipy_csr(graph[relation].adj_t)
            counts.eliminate_zeros()
            left[relation].adj_t = to_torch_csr(counts)
        else:
            left[level][modality] = graph[level][modality].where(torch.from_numpy(keep)[:, None], 0.0)
    add_section_profiles(left)
    for level in graph.levels:
        for key in graph[level]:
            if key.endswith(_KEPT):
                left[level][key] = graph[level][key]
    return left
