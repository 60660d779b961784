"""What is normal in each section: mean profiles that observations are measured against."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr

Floats = NDArray[np.floating]


def add_section_profiles(graph: TissueGraph) -> None:
    """Add to the section nodes the mean of every observation at every level.

    For counts: ``<level>_<modality>_mean`` (section, molecule), mean of log1p counts scaled to the level's depth, and
    ``…_offset``, log of the section's profile over the common one; the depth is the median of training nodes, kept as
    the level's ``<modality>_depth`` beside the common log profile, ``<modality>_common`` (molecule,). For features:
    ``…_mean`` (section, feature), over the nodes in which it is no NaN. A section with training nodes is described by
    those alone; a section held out whole by its own nodes, without labels; one that was not measured by the common
    mean.
    """
    for level in graph.levels:
        for modality in graph.modalities(level):
            rows = _describing_rows(graph, level, modality)
            if modality in names.MOLECULE_OF:
                _count_profiles(graph, level, modality, rows)
            else:
                _feature_profiles(graph, level, modality, rows)


def scale_counts(counts: sparse.csr_matrix, depth: float) -> sparse.csr_matrix:
    """Return ``log1p(depth · y / Σ y)``, node by node; an empty node stays empty."""
    total = np.asarray(counts.sum(axis=1)).ravel()
    scaled = counts.astype(np.float32, copy=True)
    scaled.data *= np.repeat(depth / np.maximum(total, 1.0), np.diff(counts.indptr)).astype(np.float32)
    np.log1p(scaled.data, out=scaled.data)
    return scaled


def _describing_rows(graph: TissueGraph, level: str, modality: str) -> NDArray[np.bool_]:
    measured = graph[level][names.mask_name(modality)].numpy()
    training = measured & graph.in_split(level, names.TRAIN).numpy()
    section = graph[level].section_index.numpy()
    has_training = np.bincount(section[training], minlength=graph[names.SECTION].num_nodes) > 0
    return np.where(has_training[section], training, measured)


def _averager(graph: TissueGraph, level: str, rows: NDArray[np.bool_]) -> tuple[sparse.csr_matrix, NDArray[np.int64]]:
    """Return the (section, node) matrix that sums describing rows, and their number in each section."""
    section = graph[level].section_index.numpy()[rows]
    n_sections = graph[names.SECTION].num_nodes
    shape = (n_sections, graph[level].num_nodes)
    ones = np.ones(int(rows.sum()), np.float32)
    return sparse.csr_matrix((ones, (section, np.flatnonzero(rows))), shape=shape), np.bincount(
        section, minlength=n_sections
    )


def _fill(mean: Floats, number: NDArray[np.int64], training: NDArray[np.bool_]) -> Floats:
    """Give sections that were not measured the mean over the measured ones (the training ones where there are any)."""
    known = number > 0
    basis = training & known if (training & known).any() else known
    if basis.any():
        mean[~known] = mean[basis].mean(axis=0)
    return mean


def _training_sections(graph: TissueGraph, level: str) -> NDArray[np.bool_]:
    section = graph[level].section_index.numpy()[graph.in_split(level, names.TRAIN).numpy()]
    return np.bincount(section, minlength=graph[names.SECTION].num_nodes) > 0


def _count_profiles(graph: TissueGraph, level: str, modality: str, rows: NDArray[np.bool_]) -> None:
    counts = to_scipy_csr(graph.counts(level, modality))
    training = rows & graph.in_split(level, names.TRAIN).numpy()
    total = np.asarray(counts.sum(axis=1)).ravel()
    depth = float(np.median(total[training if training.any() else rows])) if rows.any() else 1.0
    sums, number = _averager(graph, level, rows)
    trained = _training_sections(graph, level)
    divide = np.maximum(number, 1)[:, None]
    mean = _fill(np.asarray((sums @ scale_counts(counts, depth)).todense()) / divide, number, trained)
    summed = np.asarray((sums @ counts).todense())
    panel = graph[level][f"{modality}_panel"].numpy()
    share = (summed + 0.5) / (summed + 0.5)[:, panel].sum(axis=1, keepdims=True)
    basis = trained & (number > 0) if (trained & (number > 0)).any() else number > 0
    common = np.log(share[basis].mean(axis=0)) if basis.any() else np.log(share.mean(axis=0))
    offset = np.where((number > 0)[:, None], np.log(share) - common, 0.0)
    store = graph[names.SECTION]
    store[f"{level}_{modality}_mean"] = torch.from_numpy(mean.astype(np.float32))
    store[f"{level}_{modality}_offset"] = torch.from_numpy(offset.astype(np.float32))
    graph[level][f"{modality}_common"] = torch.from_numpy(common.astype(np.float32))
    graph[level][f"{modality}_depth"] = max(depth, 1.0)


def _feature_profiles(graph: TissueGraph, level: str, modality: str, rows: NDArray[np.bool_]) -> None:
    sums, number = _averager(graph, level, rows)
    values, training = graph[level][modality].numpy(), _training_sections(graph, level)
    known = np.isfinite(values)
    divide = np.maximum(np.asarray(sums @ known.astype(np.float32)), 1)
    mean = np.asarray(sums @ np.where(known, values, 0)) / divide
    away = np.where(known, values - mean[graph[level].section_index.numpy()], 0)
    square = np.asarray(sums @ away**2) / divide
    spread = np.maximum(_fill(np.sqrt(square), number, training), 1e-6)
    graph[names.SECTION][f"{level}_{modality}_mean"] = torch.from_numpy(
        _fill(mean, number, training).astype(np.float32)
    )
    graph[names.SECTION][f"{level}_{modality}_spread"] = torch.from_numpy(spread.astype(np.float32))
