"""Closed forms of count measurements: profile, components, counting noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import eigh
from torch import Tensor

from aivc_graph import names
from aivc_graph.errors import ModelError
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.operators.correspondence import LEAST_CELLS, correspond
from aivc_graph.operators.counts import CountInput
from aivc_graph.operators.links import LEAST_SHARED, Links
from aivc_graph.operators.measurement.distribution import off
from aivc_graph.operators.measurement.moments import Piece, gram, moment_times, squares_of
from aivc_graph.operators.measurement.panel_components import PanelMoment, factors_of, joint_components, keep_factors
from aivc_graph.operators.part import Fitting
from aivc_graph.operators.ridge import beyond_noise, ridge
from aivc_graph.operators.state import Fold

if TYPE_CHECKING:
    from aivc_graph.operators.measurement.negative_binomial import NegativeBinomialMeasurement as Measurement

Floats = NDArray[np.floating]

LEAST_PAIRS = 10
# Values that are made dense at once, and molecules up to which the whole second moment is kept.
MOST_VALUES, MOST_MOLECULES = 16_000_000, 4_000
SWEEPS, SPARE = 6, 10


def rows_of(part: Measurement, folds: list[Fold]) -> Iterator[tuple[Fold, CountInput, NDArray[np.int64]]]:
    """Yield the windows in which a part measured, what it measured there, and the rows that are fitted on."""
    for fold in folds:
        if ("measurement", *part.slot) in fold.inputs:
            data = fold.inputs.measured(*part.slot)
            yield fold, data, fold.training(part.plan.level, data.mask)


def fit_profile(part: Measurement, fitting: Fitting) -> None:
    """Dispersion of each molecule by moments around the profile of its section."""
    surplus, square = 0.0, 0.0
    chunk = max(1, MOST_VALUES // 4 // len(part.plan.names))
    for _, data, rows in rows_of(part, fitting.training):
        section = data.section.cpu().numpy()
        profile = part.log_profile.cpu() + data.section_offset.cpu()
        share = torch.softmax(profile if (there := data.there) is None else off(profile, there.cpu()), dim=1).numpy()
        csr = to_scipy_csr(data.counts.cpu())
        for start in range(0, len(rows), chunk):
            own = rows[start : start + chunk]
            counts = csr[own].toarray()
            expected = counts.sum(axis=1, keepdims=True) * share[section[own]]
            surplus = surplus + ((counts - expected) ** 2 - expected).sum(axis=0)
            square = square + (expected**2).sum(axis=0)
    if np.ndim(square):
        dispersion = np.clip(np.asarray(square) / np.maximum(surplus, 1e-12), 0.05, 100.0)
        part.log_dispersion.copy_(torch.from_numpy(np.log(dispersion)).float())


def fit_components(part: Measurement, fitting: Fitting) -> None:
    """Principal components of scaled counts, centred within sections, and the factor model that goes with them.

    Where sections measured a part of the molecules each, see `joint_components`.

    References
    ----------
    Halko, Martinsson & Tropp 2011, doi:10.1137/090771806 (subspace iteration, for wide panels); Tipping & Bishop 1999,
    doi:10.1111/1467-9868.00196 (probabilistic principal components).
    """
    scaled, panels = [], []
    for _, data, rows in rows_of(part, fitting.training):
        scaled.append(_weighed(part, data, rows))
        panels.append(data.panels.cpu().numpy()[data.panel_of.cpu().numpy()[scaled[-1][2]]])
    if not any(len(section) for _, _, section in scaled):
        return
    n, latent = len(part.plan.names), part.plan.latent
    if not all(panel.all() for panel in panels):
        return keep_factors(part, joint_components(_moments(scaled, panels), n, latent, fitting.generator))
    number = sum(len(section) for _, _, section in scaled)
    if n <= MOST_MOLECULES:
        moment = sum(gram(*piece) for piece in scaled)
        _, vectors = eigh(moment / number, subset_by_index=(n - latent, n - 1))
        vectors = vectors[:, ::-1]
    else:
        vectors = fitting.generator.standard_normal((n, min(latent + SPARE, n))).astype(np.float32)
        for _ in range(SWEEPS):
            vectors = np.linalg.qr(sum(moment_times(*piece, vectors) for piece in scaled))[0]
        _, turn = eigh(vectors.T @ sum(moment_times(*piece, vectors) for piece in scaled))
        vectors = (vectors @ turn)[:, ::-1][:, :latent]
    squares = np.sum([squares_of(*piece) for piece in scaled], axis=0) / number
    along = np.sum([(vectors * moment_times(*piece, vectors)).sum(axis=0) for piece in scaled], axis=0) / number
    keep_factors(part, factors_of(vectors, along, squares))


def _moments(scaled: list[Piece], panels: list[Floats]) -> list[PanelMoment]:
    """Return the second moment of each panel: of the nodes of all windows whose sections measured the same."""
    found: dict[bytes, PanelMoment] = {}
    for (counts, mean, section), panel in zip(scaled, panels, strict=True):
        distinct, which = np.unique(panel, axis=0, return_inverse=True)
        for one, measured in enumerate(distinct > 0):
            columns = np.flatnonzero(measured)
            own = found.setdefault(measured.tobytes(), PanelMoment(columns, len(columns) <= MOST_MOLECULES))
            rows = np.flatnonzero(which.ravel() == one)
            own.add(counts[rows], mean, section[rows])
    return list(found.values())


def _weighed(part: Measurement, data: CountInput, rows: NDArray[np.int64]) -> Piece:
    """Return scaled counts of `rows` and means of sections, weighed by the importance of molecules; and sections."""
    scaled, mean = to_scipy_csr(data.scaled.forward_csr.cpu())[rows], data.section_mean.cpu().numpy()
    if (importance := part.importance) is not None:
        weight = importance.cpu().numpy()
        scaled, mean = scaled.multiply(weight).tocsr(), mean * weight
    return scaled, mean, data.section.cpu().numpy()[rows]


def thinning_noise(part: Measurement, fitting: Fitting) -> Tensor:
    """Return the counting noise of each latent dimension (latent,), from the difference of two thinned halves."""
    squares, number = np.zeros(part.plan.latent), 0
    for fold, data, rows in rows_of(part, fitting.training):
        one, other = part.parted(data, fold.inputs.in_training(part.plan.level), 0.5, fitting.generator)
        difference = (one - other).cpu().numpy()[rows]
        squares += (difference**2).sum(axis=0)
        number += len(rows)
    return torch.from_numpy(np.maximum(squares / max(number, 1) / 4, 1e-6)).float()


def fit_into_first(part: Measurement, fitting: Fitting) -> Tensor:
    """Set loadings that lead into the state of the level's first counts; return their error (latent,).

    Principal components of two modalities are axes that have nothing to do with each other, so only nodes that both
    have measured can say what one means in terms of the other: or, where there are hardly any, what is known of their
    molecules; see `fit_by_links`. The counting noise of the first is no error of this one.
    """
    first = fitting.model.state_maker(part.plan.level)
    pairs, z, group = [], [], []
    for fold in fitting.training:
        other, data = fold.inputs.measured(*first.slot), fold.inputs.measured(*part.slot)
        rows = fold.training(part.plan.level, data.mask * other.mask)
        pairs.append(_weighed(part, data, rows))
        z.append(first.encode(other).cpu().numpy()[rows])
        group.append(pairs[-1][-1])
    state, groups = np.concatenate(z), np.concatenate(group)
    if len(state) < LEAST_PAIRS:
        return fit_by_links(part, first, fitting, len(state))
    loading, residual = _ridge_into(pairs, state, groups)
    part.loading.copy_(torch.from_numpy(loading).float())
    noise = np.exp(-first.log_precision.double().cpu().numpy())
    return torch.from_numpy(beyond_noise(residual, noise)).float()


def fit_by_links(part: Measurement, first: Measurement, fitting: Fitting, n_pairs: int) -> Tensor:
    """Set loadings from states carried over from nodes of the first modality alone; return their error (latent,).

    Both are told in the same molecules by a relation that the graph holds, such as peaks near genes, and laid beside
    each other; see `correspond`. What of the state's variance is not told so is error.

    Raises
    ------
    ModelError
        Hardly any training node has both, and no relation, or too few nodes, stand in for that.
    """
    level, modality = part.slot
    links = Links.of(fitting.source.structure, level, first.plan.modality, modality)
    pieces: dict[str, list[Piece]] = {one.plan.modality: [] for one in (first, part)}
    counts: dict[str, list[Any]] = {one: [] for one in pieces}
    states = []
    for fold in fitting.training:
        data = {one.plan.modality: fold.inputs.measured(*one.slot) for one in (first, part)}
        for one, other in ((first, part), (part, first)):
            own = data[one.plan.modality]
            rows = fold.training(level, own.mask * (1 - data[other.plan.modality].mask))
            pieces[one.plan.modality].append(_weighed(one, own, rows))
            counts[one.plan.modality].append(to_scipy_csr(own.counts.cpu())[rows])
            if one is first:
                states.append(first.encode(own).cpu().numpy()[rows])
    number = {one: sum(len(section) for _, _, section in found) for one, found in pieces.items()}
    if links is None or links.number < LEAST_SHARED or min(number.values()) < LEAST_CELLS:
        ends = " and ".join(f"{names.MOLECULE_OF[one]}s" for one in pieces)
        raise ModelError(
            f"{level} · {modality}",
            f"{n_pairs} training nodes with both {first.plan.modality} and {modality}",
            f"at least {LEAST_PAIRS}: nothing else says what one means in terms of the other",
            f"add a section with both, give a relation between {ends} under `priors:` (of {LEAST_SHARED} or more; and "
            f"{LEAST_CELLS} nodes of either), or leave the {modality} out",
        )
    logs = links.logs({one: sparse.vstack(found) for one, found in counts.items()})
    groups, state = np.concatenate([section for _, _, section in pieces[modality]]), np.concatenate(states)
    carried = correspond(logs[first.plan.modality], logs[modality], groups, fitting.seed).carry(state)
    loading, residual = _ridge_into(pieces[modality], carried, groups)
    part.loading.copy_(torch.from_numpy(loading).float())
    variance = state.var(axis=0)
    left = variance - (carried.var(axis=0) - residual)
    return torch.from_numpy(np.clip(left, 0.05 * variance + 1e-6, None)).float()


def _ridge_into(pairs: list[Piece], state: Floats, group: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return ridge coefficients (molecule, latent) and the error left (latent,).

    With more molecules than rows the same ridge is solved among the rows' own principal axes, so that no array of
    molecule by molecule is made.
    """
    rows, molecules = len(state), pairs[0][0].shape[1]
    if molecules <= MOST_MOLECULES:
        x = np.concatenate([scaled.toarray() - mean[section] for scaled, mean, section in pairs])
        found = ridge(x, state, group)
        return found, ((state - x @ found) ** 2).mean(axis=0)
    width = min(rows, 200)
    axes = np.random.default_rng(0).standard_normal((molecules, width + SPARE)).astype(np.float32)
    for _ in range(SWEEPS):
        axes = np.linalg.qr(sum(moment_times(*piece, axes) for piece in pairs))[0]
    x = np.concatenate([scaled @ axes - (mean @ axes)[section] for scaled, mean, section in pairs])
    found = ridge(x, state, group)
    return axes @ found, ((state - x @ found) ** 2).mean(axis=0)
