"""Closed forms of count measurements: loadings, dispersions, counting noise, and the decoder's first step."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor

from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.tissue_graph import to_scipy_csr, to_torch_csr
from aivc_graph.model.inputs import CountInput
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.measurement.negative_binomial import NegativeBinomialMeasurement
from aivc_graph.operators.product import SparseOperator
from aivc_graph.training.folds import Fold

Floats = NDArray[np.floating]


def fit_encoder(operator: NegativeBinomialMeasurement, folds: list[Fold], key: tuple[str, str]) -> None:
    """Principal components of scaled counts, centred within sections; common profile; dispersion by moments."""
    moment: Floats | None = None
    number, surplus, square = 0, 0.0, 0.0
    for fold in folds:
        data, section = fold.inputs.counts[key], fold.inputs.section[key[0]].cpu().numpy()
        rows = fold.training(key[0], data.mask)
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


def encode(operator: NegativeBinomialMeasurement, data: CountInput, section: Tensor) -> Tensor:
    return operator.encode(data.scaled, data.section_mean, section)


def thin(
    data: CountInput, training: Tensor, depth: float, share: float, generator: np.random.Generator
) -> tuple[CountInput, CountInput]:
    """Split counts of `training` nodes (node,) binomially into two independent parts, each scaled as if it were whole.

    Other nodes are not drawn for, so that what they hold does not move the lot of those that train.
    """
    csr = to_scipy_csr(data.counts.cpu())
    drawn = np.repeat(training.cpu().numpy(), np.diff(csr.indptr))
    kept = csr.copy()
    kept.data[drawn] = generator.binomial(np.maximum(csr.data[drawn], 0).astype(np.int64), share).astype(np.float32)
    rest = csr.copy()
    rest.data = csr.data - kept.data
    parts = []
    for part in (kept, rest):
        part.eliminate_zeros()
        device = data.counts.device
        scaled = SparseOperator(to_torch_csr(scale_counts(part, depth)).to(device), data.scaled.backward_csr)
        whole = to_torch_csr(part).to(device)
        parts.append(CountInput(whole, scaled, data.section_mean, data.section_offset, data.mask))
    return parts[0], parts[1]


def thinning_noise(
    operator: NegativeBinomialMeasurement, folds: list[Fold], key: tuple[str, str], generator: np.random.Generator
) -> Floats:
    """Return the counting noise of each latent dimension, from the difference of two thinned halves."""
    squares, number = np.zeros(operator.loading.shape[1]), 0
    for fold in folds:
        data, section = fold.inputs.counts[key], fold.inputs.section[key[0]]
        rows = fold.training(key[0], data.mask)
        halves = thin(data, fold.inputs.in_training(key[0]), float(operator.target_depth), 0.5, generator)
        difference = (encode(operator, halves[0], section) - encode(operator, halves[1], section)).cpu().numpy()[rows]
        squares += (difference**2).sum(axis=0)
        number += len(rows)
    return np.maximum(squares / max(number, 1) / 4, 1e-6)


def fit_decoder(model: TissueModel, folds: list[Fold], key: tuple[str, str]) -> None:
    """One Newton step of the Poisson log-linear regression of counts on the state, with a Gaussian prior."""
    operator, level = model.count_operator(*key), key[0]
    latent = operator.loading.shape[1]
    hessian, gradient = np.zeros((latent, latent)), np.zeros((latent, operator.loading.shape[0]))
    variance, number = np.zeros(latent), 0
    profile = torch.softmax(operator.log_profile, dim=0).double().cpu().numpy()
    for fold in folds:
        data, section = fold.inputs.counts[key], fold.inputs.section[level].cpu().numpy()
        rows = fold.training(level, data.mask)
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
    if number == 0 or not variance.any():  # no node to learn from, or all states alike: the profile is all there is
        return
    prior = 4.0 * float(variance.sum()) / number
    values, vectors = eigh(hessian)
    rotated = vectors.T @ gradient
    weight = vectors @ (rotated / (np.maximum(values, 0)[:, None] * profile[None, :] + prior))
    operator.weight.copy_(torch.from_numpy(weight.T).float())
