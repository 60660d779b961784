"""The baseline part of the model, fitted in closed form on training nodes before anything is learned by gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import nnls
from torch import Tensor

from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.tissue_graph import to_scipy_csr, to_torch_csr
from aivc_graph.model.inputs import CountInput, FeatureInput, Inputs
from aivc_graph.model.tissue_model import Hidden, TissueModel
from aivc_graph.operators.lateral.ring_mean import ring_means
from aivc_graph.operators.measurement.gaussian import GaussianMeasurement
from aivc_graph.operators.measurement.negative_binomial import NegativeBinomialMeasurement
from aivc_graph.operators.product import SparseOperator

THINNED_SHARE = 0.8
RIDGE_GRID = np.logspace(-2, 5, 15)
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Fold:
    """One window and who of it is fitted on: `rows` (node,) by level, training nodes of its core."""

    inputs: Inputs
    rows: dict[str, Tensor]


@torch.no_grad()
def fit_closed_form(model: TissueModel, folds: list[Fold], seed: int) -> dict[str, float]:
    """Fit loadings, profiles, dispersions, ring weights, own shares, expert precisions and lift maps.

    Returns label-free diagnostics: for each level with counts and neighbours the leave-one-out error of the neighbourhood
    (``loo``), and the errors of a node's own thinned counts (``thinning_own``) and of own and context mixed
    (``thinning_mixed``), all as a share of the variance.
    """
    generator = np.random.default_rng(seed)
    noise: dict[str, Floats] = {}
    diagnostics: dict[str, float] = {}
    for level, modality in _count_keys(folds):
        operator = model.counts[f"{level}_{modality}"]
        _fit_encoder(operator, folds, (level, modality))
        noise[level] = _thinning_noise(operator, folds, (level, modality), generator)
        model.log_precision[f"{level}_{modality}"].copy_(torch.from_numpy(-np.log(noise[level])).float())
    for level, modality in _feature_keys(folds):
        _fit_features(model, folds, (level, modality), noise.get(level))
    for level in model.plan.laterals:
        diagnostics |= _fit_lateral(model, folds, level, generator)
    for child, parent in model.plan.withins:
        _fit_lift(model, folds, child, parent)
    for level, modality in _count_keys(folds):
        _fit_decoder(model, folds, (level, modality))
    return diagnostics


def _count_keys(folds: list[Fold]) -> list[tuple[str, str]]:
    return sorted({key for fold in folds for key in fold.inputs.counts})


def _feature_keys(folds: list[Fold]) -> list[tuple[str, str]]:
    return sorted({key for fold in folds for key in fold.inputs.features})


def _training(fold: Fold, data: CountInput | FeatureInput, level: str) -> NDArray[np.int64]:
    return np.flatnonzero((fold.rows[level] * data.mask).cpu().numpy() > 0)


def _fit_encoder(operator: NegativeBinomialMeasurement, folds: list[Fold], key: tuple[str, str]) -> None:
    """Principal components of scaled counts, centred within sections; common profile; dispersion by moments."""
    moment: Floats | None = None
    number, surplus, square = 0, 0.0, 0.0
    for fold in folds:
        data, section = fold.inputs.counts[key], fold.inputs.section[key[0]].cpu().numpy()
        rows = _training(fold, data, key[0])
        mean = data.section_mean.cpu().numpy()
        for start in range(0, len(rows), 4000):
            chunk = rows[start : start + 4000]
            centred = to_scipy_csr(data.scaled.forward_csr.cpu())[chunk].toarray() - mean[section[chunk]]
            gram = centred.T @ centred
            moment = gram if moment is None else moment + gram
            number += len(chunk)
            counts = to_scipy_csr(data.counts.cpu())[chunk].toarray()
            share = torch.softmax(operator.log_profile.cpu() + data.section_offset.cpu(), dim=1).numpy()
            expected = counts.sum(axis=1, keepdims=True) * share[section[chunk]]
            surplus = surplus + ((counts - expected) ** 2 - expected).sum(axis=0)
            square = square + (expected**2).sum(axis=0)
    if moment is None:
        return
    n = moment.shape[0]
    latent = operator.loading.shape[1]
    _, vectors = eigh(moment / max(number, 1), subset_by_index=(n - latent, n - 1))
    vectors = vectors[:, ::-1]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(latent)])
    operator.loading.copy_(torch.from_numpy(np.ascontiguousarray(vectors)).float())
    dispersion = np.clip(np.asarray(square) / np.maximum(surplus, 1e-12), 0.05, 100.0)
    operator.log_dispersion.copy_(torch.from_numpy(np.log(dispersion)).float())


def _encode(operator: NegativeBinomialMeasurement, data: CountInput, section: Tensor) -> Tensor:
    return operator.encode(data.scaled, data.section_mean, section)


def _thin(data: CountInput, depth: float, share: float, generator: np.random.Generator) -> tuple[CountInput, CountInput]:
    """Split counts binomially into two independent parts, each scaled as if it were whole."""
    csr = to_scipy_csr(data.counts.cpu())
    kept = csr.copy()
    kept.data = generator.binomial(np.maximum(csr.data, 0).astype(np.int64), share).astype(np.float32)
    rest = csr.copy()
    rest.data = csr.data - kept.data
    parts = []
    for part in (kept, rest):
        part.eliminate_zeros()
        scaled = SparseOperator(to_torch_csr(scale_counts(part, depth)), data.scaled.backward_csr)
        parts.append(CountInput(to_torch_csr(part), scaled, data.section_mean.cpu(), data.section_offset.cpu(), data.mask.cpu()))
    return parts[0], parts[1]


def _thinning_noise(
    operator: NegativeBinomialMeasurement, folds: list[Fold], key: tuple[str, str], generator: np.random.Generator
) -> Floats:
    """Return the counting noise of each latent dimension, from the difference of two thinned halves."""
    squares, number = np.zeros(operator.loading.shape[1]), 0
    for fold in folds:
        data, section = fold.inputs.counts[key], fold.inputs.section[key[0]].cpu()
        rows = _training(fold, data, key[0])
        halves = _thin(data, float(operator.target_depth), 0.5, generator)
        difference = (_encode(operator, halves[0], section) - _encode(operator, halves[1], section)).numpy()[rows]
        squares += (difference**2).sum(axis=0)
        number += len(rows)
    return np.maximum(squares / max(number, 1) / 4, 1e-6)


def _fit_features(model: TissueModel, folds: list[Fold], key: tuple[str, str], noise: Floats | None) -> None:
    """Ridge from features to the state that counts give where both were measured; principal components elsewhere."""
    operator: GaussianMeasurement = model.features[f"{key[0]}_{key[1]}"]
    standard, group, rows = [], [], []
    for i, fold in enumerate(folds):
        data, section = fold.inputs.features[key], fold.inputs.section[key[0]]
        chosen = _training(fold, data, key[0])
        standard.append((data.features - data.section_mean[section]).cpu().numpy()[chosen])
        group.append(section.cpu().numpy()[chosen] + 0 * i)
        rows.append(chosen)
    x = np.concatenate(standard)
    if len(x) == 0:
        return
    spread = np.maximum(x.std(axis=0), 1e-6)
    operator.spread.copy_(torch.from_numpy(spread).float())
    x = x / spread
    target = _own_state(model, folds, key[0], rows)
    if target is None:
        _, _, v = np.linalg.svd(x, full_matrices=False)
        loading = np.zeros((x.shape[1], operator.loading.shape[1]))
        loading[:, : len(v)] = v[: loading.shape[1]].T
        z = x @ loading
    else:
        z, measured = target
        pairs, groups = x[measured], np.concatenate(group)[measured]
        loading = ridge(pairs, z[measured], groups)
        residual = ((z[measured] - pairs @ loading) ** 2).mean(axis=0)
        error = np.maximum(residual - (noise if noise is not None else 0.0), 0.05 * residual + 1e-6)
        model.log_precision[f"{key[0]}_{key[1]}"].copy_(torch.from_numpy(-np.log(error)).float())
        z = np.where(measured[:, None], z, x @ loading)
    operator.loading.copy_(torch.from_numpy(loading).float())
    weight = ridge(z, x, np.concatenate(group))
    operator.weight.copy_(torch.from_numpy(weight.T).float())
    operator.log_scale.copy_(torch.from_numpy(np.log(np.maximum((x - z @ weight).std(axis=0), 1e-3))).float())


def _own_state(model: TissueModel, folds: list[Fold], level: str, rows: list[NDArray[np.int64]]) -> tuple[Floats, NDArray[np.bool_]] | None:
    """Return what counts alone say of `rows` (row, latent) and who was counted, or None where nobody was."""
    states, seen = [], []
    for fold, chosen in zip(folds, rows, strict=True):
        keys = [key for key in fold.inputs.counts if key[0] == level]
        if not keys:
            return None
        data = fold.inputs.counts[keys[0]]
        state = _encode(model.counts[f"{keys[0][0]}_{keys[0][1]}"], data, fold.inputs.section[level])
        states.append(state.cpu().numpy()[chosen])
        seen.append(data.mask.cpu().numpy()[chosen] > 0)
    measured = np.concatenate(seen)
    return (np.concatenate(states), measured) if measured.sum() > 10 else None


def ridge(x: Floats, y: Floats, group: NDArray[np.integer]) -> Floats:
    """Return ridge coefficients (feature, target), no intercept; the penalty is the best on held-out groups.

    With one group, five consecutive stretches of rows (neighbouring tissue) stand in for groups.
    """
    folds = group if len(np.unique(group)) > 1 else np.arange(len(x)) * 5 // max(len(x), 1)
    errors = np.zeros(len(RIDGE_GRID))
    whole, cross = x.T @ x, x.T @ y
    for fold in np.unique(folds):
        out = folds == fold
        values, vectors = eigh(whole - x[out].T @ x[out])
        rotated, target = x[out] @ vectors, vectors.T @ (cross - x[out].T @ y[out])
        for i, penalty in enumerate(RIDGE_GRID):
            errors[i] += ((y[out] - rotated @ (target / (np.maximum(values, 0) + penalty)[:, None])) ** 2).sum()
    penalty = RIDGE_GRID[errors.argmin()]
    return np.linalg.solve(whole + penalty * np.eye(len(whole)), cross)


def _fit_lateral(model: TissueModel, folds: list[Fold], level: str, generator: np.random.Generator) -> dict[str, float]:
    """Ring weights by leave-one-out, own share by thinning; both by least squares over training nodes."""
    operator = model.blocks[0].laterals[level]
    own, means = [], []
    for fold in folds:
        state = model.encode(fold.inputs, Hidden())
        rows = torch.nonzero(fold.rows[level] * state.own[level]).ravel()
        own.append(state.z[level][rows])
        means.append(torch.stack(ring_means(state.z[level], state.own[level], fold.inputs.rings[level]))[:, rows])
    z, rings = torch.cat(own).double().cpu().numpy(), torch.cat(means, dim=1).double().cpu().numpy()
    if len(z) < 2:
        return {}
    weights, residual = nnls(rings.reshape(len(rings), -1).T, z.ravel())
    if weights.sum() > 0:
        operator.ring_weight.copy_(torch.from_numpy(weights[:, None]).float())
    found = {f"{level}.loo": float(residual**2 / max((z**2).sum(), 1e-12))}
    keys = [key for key in _count_keys(folds) if key[0] == level]
    return found | (_fit_share(model, folds, keys[0], generator) if keys else {})


def _fit_share(model: TissueModel, folds: list[Fold], key: tuple[str, str], generator: np.random.Generator) -> dict[str, float]:
    level = key[0]
    lateral, operator = model.blocks[0].laterals[level], model.counts[f"{key[0]}_{key[1]}"]
    parts: list[tuple[Floats, Floats, Floats]] = []
    for share in (THINNED_SHARE, 0.5):
        own, context, target = [], [], []
        for fold in folds:
            data, section = fold.inputs.counts[key], fold.inputs.section[level]
            kept, rest = _thin(data, float(operator.target_depth), share, generator)
            rows = _training(fold, data, level)
            state = operator.encode(kept.scaled, kept.section_mean, section.cpu())
            device = fold.inputs.device
            context.append(lateral.context(state.to(device), data.mask, fold.inputs.rings[level]).cpu().numpy()[rows])
            own.append(state.numpy()[rows])
            target.append(operator.encode(rest.scaled, rest.section_mean, section.cpu()).numpy()[rows])
        parts.append((np.concatenate(own), np.concatenate(context), np.concatenate(target)))
    own_part, context_part, target_part = parts[0]
    shares = np.zeros(own_part.shape[1])
    for j in range(len(shares)):
        weights, _ = nnls(np.column_stack([own_part[:, j], context_part[:, j]]).astype(float), target_part[:, j].astype(float))
        shares[j] = weights[1] / weights.sum() if weights.sum() > 0 else 0.0
    lateral.share.copy_(torch.from_numpy(shares).float())
    own_half, context_half, target_half = parts[1]
    mixed = own_half + shares * (context_half - own_half)
    return {f"{level}.thinning_own": _scaled_error(own_half, target_half), f"{level}.thinning_mixed": _scaled_error(mixed, target_half)}


def _scaled_error(prediction: Floats, target: Floats) -> float:
    """Return the squared error of the best multiple of `prediction` as a share of the target's."""
    scale = (prediction * target).sum() / max((prediction**2).sum(), 1e-12)
    return float(((target - scale * prediction) ** 2).sum() / max((target**2).sum(), 1e-12))


def _fit_lift(model: TissueModel, folds: list[Fold], child: str, parent: str) -> None:
    """Ridge from pooled children to the parent's own state, where both were measured; the identity elsewhere."""
    operator = model.blocks[0].lifts[f"{child}_{parent}"]
    pooled, own, group = [], [], []
    for fold in folds:
        state = model.encode(fold.inputs, Hidden())
        overlap = fold.inputs.lift[child, parent]
        both = fold.rows[parent] * state.own[parent] * ((overlap @ state.own[child][:, None]).ravel() > 0.99)
        rows = torch.nonzero(both).ravel()
        pooled.append((overlap @ state.z[child])[rows].cpu().numpy())
        own.append(state.z[parent][rows].cpu().numpy())
        group.append(fold.inputs.section[parent][rows].cpu().numpy())
    x = np.concatenate(pooled)
    if len(x) > 5 * x.shape[1]:
        operator.map.copy_(torch.from_numpy(ridge(x, np.concatenate(own), np.concatenate(group))).float())


def _fit_decoder(model: TissueModel, folds: list[Fold], key: tuple[str, str]) -> None:
    """One Newton step of the Poisson log-linear regression of counts on the state, with a Gaussian prior."""
    operator, level = model.counts[f"{key[0]}_{key[1]}"], key[0]
    latent = operator.loading.shape[1]
    hessian, gradient = np.zeros((latent, latent)), np.zeros((latent, operator.loading.shape[0]))
    variance, number = np.zeros(latent), 0
    profile = torch.softmax(operator.log_profile, dim=0).double().cpu().numpy()
    for fold in folds:
        data, section = fold.inputs.counts[key], fold.inputs.section[level].cpu().numpy()
        rows = _training(fold, data, level)
        z = model(fold.inputs).z[level].double().cpu().numpy()[rows]
        counts = to_scipy_csr(data.counts.cpu())[rows]
        depth = np.asarray(counts.sum(axis=1)).ravel()
        shares = torch.softmax(operator.log_profile.cpu() + data.section_offset.cpu(), dim=1).double().numpy()
        hessian += z.T @ (z * depth[:, None])
        gradient += (counts.T @ z).T
        for s in np.unique(section[rows]):
            own = section[rows] == s
            gradient -= np.outer(z[own].T @ depth[own], shares[s])
        variance += (z**2).sum(axis=0)
        number += len(rows)
    if number == 0:
        return
    prior = 4.0 * float(variance.sum()) / number
    values, vectors = eigh(hessian)
    rotated = vectors.T @ gradient
    weight = vectors @ (rotated / (np.maximum(values, 0)[:, None] * profile[None, :] + prior))
    operator.weight.copy_(torch.from_numpy(weight.T).float())
