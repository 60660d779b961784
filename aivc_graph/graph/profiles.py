"""What is normal in each section: mean profiles that observations are measured against."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.graph.cofactors import cofactor_name
from aivc_graph.graph.panels import measured_molecules
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr

Floats = NDArray[np.floating]
MOST_ROUNDS, CONVERGED = 500, 1e-9
FIRM = 4


def add_section_profiles(graph: TissueGraph, like: TissueGraph | None = None) -> None:
    """Add to the section nodes the mean of every observation at every level.

    For counts: ``<level>_<modality>_mean`` (section, molecule), mean of log1p counts scaled to the level's depth, and
    ``…_offset``, log of the section's profile over the common one; the depth is the median of training nodes, kept as
    the level's ``<modality>_depth`` beside the common log profile, ``<modality>_common`` (molecule,). Where sections
    measured a part of the panel each, both are of what they measured, at the depth they would have had with all of it,
    and zero elsewhere. For features: ``…_mean`` and ``…_spread`` (section, feature), over the nodes in which it is no
    NaN, of intensities of their arcsinh. A section with training nodes is described by those alone; a section held out
    whole by its own nodes, without labels; one that was not measured by the common mean.

    Parameters
    ----------
    like
        A graph with the same panels and with its profiles: depths, the common profile and the common mean are then
        those of that graph, whatever is in this one.
    """
    for level in graph.levels:
        for modality in graph.modalities(level):
            rows = _describing_rows(graph, level, modality)
            if modality in names.MOLECULE_OF:
                _count_profiles(graph, level, modality, rows, like)
            else:
                _feature_profiles(graph, level, modality, rows, like)


def scale_counts(counts: sparse.csr_matrix, depth: float | Floats) -> sparse.csr_matrix:
    """Return ``log1p(depth · y / Σ y)``, node by node, `depth` one or (node,); an empty node stays empty."""
    total = np.asarray(counts.sum(axis=1)).ravel()
    scaled = counts.astype(np.float32, copy=True)
    scaled.data *= np.repeat(depth / np.maximum(total, 1.0), np.diff(counts.indptr)).astype(np.float32)
    np.log1p(scaled.data, out=scaled.data)
    return scaled


def measured_share(graph: TissueGraph, level: str, modality: str) -> Floats:
    """Return how much of all counts the molecules make up that each section measured, in the common profile (section,).

    One where the whole panel was measured.
    """
    panel = graph[level][f"{modality}_panel"]
    measured = measured_molecules(graph, level, modality)[:, panel]
    if bool(measured.all()):
        return np.ones(len(measured))
    common = graph[level][f"{modality}_common"][panel].double().exp()
    return np.asarray((measured.double() @ common / common.sum()).numpy())


def level_spread(graph: TissueGraph, level: str, modality: str) -> Floats:
    """Return how far the log level of a molecule in one section lies from what others lead to expect (panel molecule,).

    The standard deviation over the sections that say what is common, as far as they measured it, drawn towards that of
    all molecules as if four more sections had been measured; NaN where no molecule was measured by two of them.
    """
    panel, kept = graph[level][f"{modality}_panel"].numpy(), graph[level].get(spread_name(modality))
    if kept is not None:
        return np.asarray(kept.numpy()[panel], np.float64)
    basis = _basis(graph, level, modality)
    known = measured_molecules(graph, level, modality).numpy()[basis][:, panel]
    offset = graph[names.SECTION][f"{level}_{modality}_offset"].numpy()[basis][:, panel].astype(np.float64)
    number = known.sum(axis=0)
    mean = (offset * known).sum(axis=0) / np.maximum(number, 1)
    squares, free = (((offset - mean) * known) ** 2).sum(axis=0), np.maximum(number - 1, 0)
    if not free.any():
        return np.full(panel.sum(), np.nan)
    pooled = squares.sum() / free.sum()
    return np.sqrt((squares + FIRM * pooled) / (free + FIRM) * (1 + 1 / np.maximum(number, 1)))


def spread_name(modality: str) -> str:
    """Return the attribute of a level that keeps `level_spread` of training (molecule,) for tissue that is asked."""
    return f"{modality}_spread_panel"


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


def _basis(graph: TissueGraph, level: str, modality: str) -> NDArray[np.bool_]:
    """Return the sections that say what is common: those measured in training, or all that were measured."""
    n_sections = graph[names.SECTION].num_nodes

    def there(rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.bincount(graph[level].section_index.numpy()[rows], minlength=n_sections) > 0

    known = there(_describing_rows(graph, level, modality))
    training = known & there(graph.in_split(level, names.TRAIN).numpy())
    return training if training.any() else known


def _common_mean(
    values: Floats,
    graph: TissueGraph,
    level: str,
    modality: str,
    what: str,
    like: TissueGraph | None,
) -> Floats:
    """Return what describes a section that was not measured (molecule,): the mean of those that say what is common.

    Parameters
    ----------
    values
        Of the sections of `graph` (section, molecule).
    what
        What they are of: ``mean`` or ``spread``.
    """
    if like is not None:
        graph, values = like, like[names.SECTION][f"{level}_{modality}_{what}"].numpy()
    basis = _basis(graph, level, modality)
    if not basis.any():
        return np.zeros(values.shape[1])
    if modality in names.MOLECULE_OF:
        return _mean_known(values[basis], measured_molecules(graph, level, modality).numpy()[basis])
    return np.asarray(values[basis].mean(axis=0))


def _mean_known(values: Floats, known: NDArray[np.bool_]) -> Floats:
    """Return the mean over the sections that measured each molecule (molecule,), zero where none did."""
    if known.all():
        return np.asarray(values.mean(axis=0))
    return np.asarray((values * known).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def _count_profiles(
    graph: TissueGraph, level: str, modality: str, rows: NDArray[np.bool_], like: TissueGraph | None
) -> None:
    counts = to_scipy_csr(graph.counts(level, modality))
    training = rows & graph.in_split(level, names.TRAIN).numpy()
    total = np.asarray(counts.sum(axis=1)).ravel()
    sums, number = _averager(graph, level, rows)
    summed = np.asarray((sums @ counts).todense())
    measured = measured_molecules(graph, level, modality).numpy()
    partly = not measured[:, graph[level][f"{modality}_panel"].numpy()].all()
    if like is not None:
        graph[level][f"{modality}_common"] = like[level][f"{modality}_common"]
    elif partly:
        common = _joint_profile(summed + 0.5, measured, _basis(graph, level, modality), number > 0)
        graph[level][f"{modality}_common"] = torch.from_numpy(common.astype(np.float32))
    covered, section = measured_share(graph, level, modality), graph[level].section_index.numpy()
    whole = total / covered.astype(total.dtype)[section]
    depth = float(np.median(whole[training if training.any() else rows])) if rows.any() else 1.0
    if like is not None:
        depth = like[level][f"{modality}_depth"]
    divide = np.maximum(number, 1)[:, None]
    scaled = scale_counts(counts, depth * covered[section])
    mean = np.asarray((sums @ scaled).todense()) / divide
    mean[number == 0] = _common_mean(mean, graph, level, modality, "mean", like)
    share = (summed + 0.5) / (summed + 0.5).sum(axis=1, keepdims=True, where=measured) * covered[:, None]
    if like is None and not partly:
        basis = _basis(graph, level, modality)
        common = np.log(share[basis].mean(axis=0)) if basis.any() else np.log(share.mean(axis=0))
        graph[level][f"{modality}_common"] = torch.from_numpy(common.astype(np.float32))
    away = np.log(share) - graph[level][f"{modality}_common"].numpy()
    offset = np.where((number > 0)[:, None] & measured, away, 0.0)
    store = graph[names.SECTION]
    store[f"{level}_{modality}_mean"] = torch.from_numpy(mean.astype(np.float32))
    store[f"{level}_{modality}_offset"] = torch.from_numpy(offset.astype(np.float32))
    graph[level][f"{modality}_depth"] = max(depth, 1.0)


def _joint_profile(
    summed: Floats, measured: NDArray[np.bool_], basis: NDArray[np.bool_], there: NDArray[np.bool_]
) -> Floats:
    r"""Return the common log profile (molecule,) of sections that measured a part of the molecules each.

    The share :math:`\rho_g` that solves :math:`\rho_g = \mathrm{mean}_{s \ni g}\, q_{sg} \sum_{h \in s} \rho_h`, with
    :math:`q_s` the shares of what section s measured: where all measured all, their mean. It is the leading eigenvector
    of a matrix without negative entries, one alone as long as sections overlap.

    Parameters
    ----------
    summed
        Counts (section, molecule), above zero.
    basis, there
        The sections that say what is common (section,), and those that measured at all, which speak of what no
        section of the basis measured. Where none did, as where all observations are taken away, all say nothing alike.
    """
    there = there | ~there.any()
    own = np.where(measured, summed, 0.0)
    own /= np.maximum(own.sum(axis=1, keepdims=True), 1e-12)
    speaks = measured & basis[:, None]
    speaks |= measured & there[:, None] & ~speaks.any(axis=0)
    weight = speaks / np.maximum(speaks.sum(axis=0), 1)
    profile = (own * weight).sum(axis=0)
    for _ in range(MOST_ROUNDS):
        before, profile = profile, ((measured @ profile)[:, None] * own * weight).sum(axis=0)
        profile /= profile.sum()
        if np.abs(profile - before).sum() < CONVERGED:
            break
    return np.asarray(np.log(np.maximum(profile, 1e-12)))


def _feature_profiles(
    graph: TissueGraph, level: str, modality: str, rows: NDArray[np.bool_], like: TissueGraph | None
) -> None:
    sums, number = _averager(graph, level, rows)
    values = graph[level][modality].numpy()
    if (cofactor := cofactor_name(modality)) in graph[level]:
        values = np.arcsinh(values / graph[level][cofactor].numpy())
    known = np.isfinite(values)
    divide = np.maximum(np.asarray(sums @ known.astype(np.float32)), 1)
    mean = np.asarray(sums @ np.where(known, values, 0)) / divide
    away = np.where(known, values - mean[graph[level].section_index.numpy()], 0)
    found = {"mean": mean, "spread": np.sqrt(np.asarray(sums @ away**2) / divide)}
    for what, described in found.items():
        described[number == 0] = _common_mean(described, graph, level, modality, what, like)
    found["spread"] = np.maximum(found["spread"], 1e-6)
    for what, described in found.items():
        graph[names.SECTION][f"{level}_{modality}_{what}"] = torch.from_numpy(described.astype(np.float32))
