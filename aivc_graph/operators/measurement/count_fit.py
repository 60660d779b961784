"""Closed forms of count measurements: profile, components, counting noise, decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import eigh
from torch import Tensor

from aivc_graph.errors import ModelError
from aivc_graph.graph.tissue_graph import to_scipy_csr, to_torch_csr
from aivc_graph.operators.counts import CountInput
from aivc_graph.operators.hiding import draw_hidden
from aivc_graph.operators.part import Fitting
from aivc_graph.operators.ridge import ridge
from aivc_graph.operators.state import Fold

if TYPE_CHECKING:
    from aivc_graph.operators.measurement.distribution import AbstractCounts
    from aivc_graph.operators.measurement.negative_binomial import NegativeBinomialMeasurement as Measurement

Floats = NDArray[np.floating]
Mixture = dict[str, Tensor]
Said = Callable[["Asked", Mixture], "AbstractCounts"]
Prior = Callable[[Mixture], Tensor]

LEAST_PAIRS = 10
# Values that are made dense at once, and molecules up to which the whole second moment is kept.
MOST_VALUES, MOST_MOLECULES = 16_000_000, 4_000
SWEEPS, SPARE = 6, 10
# Values that the decoder is fitted to, and the scales that held-out tissue chooses from.
DECODER_VALUES, DECODER_STEPS, TURNS = 3_000_000, 60, 3
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)
# Steps in which the parameters of a law are fitted to a decoder; where nobody is held out, one node in so many judges
# them, and they have to earn so much, a node and molecule [nats].
LAW_STEPS, ONE_IN, LEAST_GAIN = 60, 3, 1e-3
# A scale above nothing has to earn this share of the negative log-likelihood.
WORTH = 1e-4


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
        share = torch.softmax(part.log_profile.cpu() + data.section_offset.cpu(), dim=1).numpy()
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

    A component's variance is its eigenvalue less the mean of those left out; what components do not explain of a
    molecule is its own.

    References
    ----------
    Halko, Martinsson & Tropp 2011, doi:10.1137/090771806 (subspace iteration, for wide panels); Tipping & Bishop 1999,
    doi:10.1111/1467-9868.00196 (probabilistic principal components).
    """
    scaled = []
    for _, data, rows in rows_of(part, fitting.training):
        scaled.append(_weighed(part, data, rows))
    if not any(len(section) for _, _, section in scaled):
        return
    n, latent = len(part.plan.names), part.plan.latent
    number = sum(len(section) for _, _, section in scaled)
    if n <= MOST_MOLECULES:
        moment = sum(_gram(*piece) for piece in scaled)
        _, vectors = eigh(moment / number, subset_by_index=(n - latent, n - 1))
        vectors = vectors[:, ::-1]
    else:
        vectors = fitting.generator.standard_normal((n, min(latent + SPARE, n))).astype(np.float32)
        for _ in range(SWEEPS):
            vectors = np.linalg.qr(sum(_moment_times(*piece, vectors) for piece in scaled))[0]
        _, turn = eigh(vectors.T @ sum(_moment_times(*piece, vectors) for piece in scaled))
        vectors = (vectors @ turn)[:, ::-1][:, :latent]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(latent)])
    part.loading.copy_(torch.from_numpy(np.ascontiguousarray(vectors)).float())
    squares = np.sum([_squares(*piece) for piece in scaled], axis=0) / number
    along = np.sum([(vectors * _moment_times(*piece, vectors)).sum(axis=0) for piece in scaled], axis=0) / number
    noise = max(float(squares.sum() - along.sum()) / max(n - latent, 1), 1e-6)
    variance = np.maximum(along - noise, 1e-3 * noise)
    part.variance.copy_(torch.from_numpy(variance).float())
    own = np.maximum(squares - vectors**2 @ variance, 0.05 * squares + 1e-6)
    part.own_variance.copy_(torch.from_numpy(own).float())


def _weighed(
    part: Measurement, data: CountInput, rows: NDArray[np.int64]
) -> tuple[sparse.csr_matrix, Floats, NDArray[np.int64]]:
    """Return scaled counts of `rows` and means of sections, weighed by the importance of molecules; and sections."""
    scaled, mean = to_scipy_csr(data.scaled.forward_csr.cpu())[rows], data.section_mean.cpu().numpy()
    if (importance := part.importance) is not None:
        weight = importance.cpu().numpy()
        scaled, mean = scaled.multiply(weight).tocsr(), mean * weight
    return scaled, mean, data.section.cpu().numpy()[rows]


def _gram(scaled: sparse.csr_matrix, mean: Floats, section: NDArray[np.int64]) -> Floats:
    total = np.zeros((scaled.shape[1], scaled.shape[1]), np.float32)
    for start in range(0, len(section), 4000):
        centred = scaled[start : start + 4000].toarray() - mean[section[start : start + 4000]]
        total = total + centred.T @ centred
    return total


def _squares(scaled: sparse.csr_matrix, mean: Floats, section: NDArray[np.int64]) -> Floats:
    """Return the summed squares of each molecule (molecule,) about the mean of the node's section."""
    number = np.bincount(section, minlength=len(mean))
    by_section = sparse.csr_matrix(
        (np.ones(len(section)), (section, np.arange(len(section)))), (len(mean), len(section))
    )
    summed = np.asarray((by_section @ scaled).todense())
    found = np.asarray(scaled.multiply(scaled).sum(axis=0)).ravel() - (2 * summed * mean).sum(axis=0)
    return np.maximum(found + number @ mean**2, 0.0)


def _moment_times(scaled: sparse.csr_matrix, mean: Floats, section: NDArray[np.int64], vectors: Floats) -> Floats:
    """Return ``XᵀX vectors`` of centred rows X, which are never made dense."""
    told = scaled @ vectors - (mean @ vectors)[section]
    by_section = sparse.csr_matrix(
        (np.ones(len(section)), (section, np.arange(len(section)))), (len(mean), len(section))
    )
    return np.asarray(scaled.T @ told - mean.T @ (by_section @ told))


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
    have measured can say what one means in terms of the other. The counting noise of the first is no error of this one.

    Raises
    ------
    ModelError
        Hardly any training node has both.
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
        level, modality = part.slot
        raise ModelError(
            f"{level} · {modality}",
            f"{len(state)} training nodes with both {first.plan.modality} and {modality}",
            f"at least {LEAST_PAIRS}: nothing else says what one means in terms of the other",
            f"add a section with both, or leave the {modality} out",
        )
    loading, residual = _ridge_into(pairs, state, groups)
    part.loading.copy_(torch.from_numpy(loading).float())
    noise = np.exp(-first.log_precision.double().cpu().numpy())
    return torch.from_numpy(np.maximum(residual - noise, 0.05 * residual + 1e-6)).float()


def _ridge_into(
    pairs: list[tuple[sparse.csr_matrix, Floats, NDArray[np.int64]]], state: Floats, group: NDArray[np.int64]
) -> tuple[Floats, Floats]:
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
        axes = np.linalg.qr(sum(_moment_times(*piece, axes) for piece in pairs))[0]
    x = np.concatenate([scaled @ axes - (mean @ axes)[section] for scaled, mean, section in pairs])
    found = ridge(x, state, group)
    return axes @ found, ((state - x @ found) ** 2).mean(axis=0)


@dataclass(frozen=True)
class Asked:
    """Nodes with what was hidden of them: their state, counts, depth, section profile, and which nodes
    and molecules count."""

    z: Tensor
    counts: Tensor
    offset: Tensor
    section: Tensor
    depth: Tensor
    node: Tensor
    molecule: Tensor

    def nll(self, part: Measurement, weight: Tensor) -> Tensor:
        """Return the negative log-likelihood of what was hidden, by a decoder's weights."""
        return self.nll_of(part.given(self.z, weight, self.offset, self.section, self.depth))

    def nll_of(self, said: AbstractCounts) -> Tensor:
        """Return the negative log-likelihood of what was hidden."""
        return said.nll(self.counts, self.node, self.molecule)

    def by_molecule(self, said: AbstractCounts) -> Tensor:
        """Return the log-likelihood of what was hidden of each molecule (molecule,)."""
        return (self.node @ said.log_prob(self.counts.to_dense())) * self.molecule

    def every(self, step: int, *, judge: bool) -> Asked:
        """Return what was asked with one node in `step` alone, or with all others."""
        chosen = torch.arange(len(self.node), device=self.node.device) % step == 0
        return replace(self, node=(chosen if judge else ~chosen).float())


def fit_decoder(part: Measurement, fitting: Fitting) -> None:
    """Weights of the decoder by maximum likelihood of what was hidden, with a Gaussian prior, from zero to convergence.

    A state that had seen the counts would follow their noise, so nodes and molecules are hidden as in training. How
    much of the weights is kept is chosen on held-out tissue; nothing is the mean profile.
    """
    asked = asked_of(part, fitting, fitting.training, fitting.seed)
    if not asked:
        return
    variance = sum(float(one.z.square().sum()) for one in asked) / sum(len(one.z) for one in asked)
    weight = torch.zeros_like(part.weight, requires_grad=True)
    if variance > 0:
        scale = 1.0 / sum(len(one.z) for one in asked)
        optimiser = torch.optim.LBFGS([weight], max_iter=DECODER_STEPS, history_size=20, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            total = sum((one.nll(part, weight) for one in asked), torch.zeros((), device=weight.device))
            value = scale * (total + 2.0 * variance * weight.square().sum())
            value.backward()
            return value

        with torch.enable_grad():
            optimiser.step(loss)
    held_out = asked_of(part, fitting, fitting.held_out, fitting.seed + 1) or asked
    fitted = weight.detach()
    losses = [sum(float(one.nll(part, fitted * scale)) for one in held_out) for scale in SCALES]
    best = int(np.argmin(losses))
    kept = SCALES[best] if losses[best] < losses[0] * (1 - WORTH) else 0.0
    part.weight.copy_(fitted * kept)


def fit_dispersion(part: Measurement, fitting: Fitting) -> None:
    """Dispersion of each molecule by maximum likelihood of what was hidden, given the decoder.

    That about the profile of the section counts what the state explains as noise. It stays for molecules of which
    held-out tissue likes it better.
    """
    asked = asked_of(part, fitting, fitting.training, fitting.seed + 2)
    if not asked:
        return

    def said(one: Asked, mixture: Mixture) -> AbstractCounts:
        told = part.given(one.z, part.weight, one.offset, one.section, one.depth)
        return replace(told, **mixture)

    start = {"log_dispersion": part.log_dispersion.clone()}
    found, better = likeliest(fitting, part, asked, start, start, said, lambda mixture: _near(mixture, start))
    part.log_dispersion.copy_(torch.where(better, found["log_dispersion"], part.log_dispersion))


def _near(mixture: Mixture, start: Mixture) -> Tensor:
    return 0.5 * (mixture["log_dispersion"] - start["log_dispersion"]).square().sum()


def likeliest(
    fitting: Fitting, part: Measurement, asked: list[Asked], start: Mixture, plain: Mixture, said: Said, prior: Prior
) -> tuple[Mixture, Tensor]:
    """Return parameters of greatest likelihood times prior, and for which molecules they are better than plain ones.

    Better in likelihood of groups held out, where there are any, else of nodes that they were not fitted to.

    Parameters
    ----------
    asked
        What was hidden of training nodes, and their states.
    said, prior
        The distribution that goes with parameters; the negative log of their prior.
    """
    if fitting.held_out is fitting.training:
        learners = [one.every(ONE_IN, judge=False) for one in asked]
        judges = [one.every(ONE_IN, judge=True) for one in asked]
    else:
        learners, judges = asked, asked_of(part, fitting, fitting.held_out, fitting.seed + 3)
    tried = _fitted(learners, start, said, prior)
    gain = sum(one.by_molecule(said(one, tried)) - one.by_molecule(said(one, plain)) for one in judges)
    number = sum(float(one.node.sum()) * one.molecule for one in judges)
    found = tried if learners is asked else _fitted(asked, start, said, prior)
    return found, torch.as_tensor(gain > LEAST_GAIN * number, device=part.weight.device)


def _fitted(asked: list[Asked], start: Mixture, said: Said, prior: Prior) -> Mixture:
    found = {name: value.clone().requires_grad_() for name, value in start.items()}
    number = sum(float(one.node.sum()) for one in asked)
    optimiser = torch.optim.LBFGS(found.values(), max_iter=LAW_STEPS, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = (sum((one.nll_of(said(one, found)) for one in asked), prior(found))) / max(number, 1.0)
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    return {name: value.detach() for name, value in found.items()}


def asked_of(part: Measurement, fitting: Fitting, folds: list[Fold], seed: int) -> list[Asked]:
    """Return the measured nodes of `folds`, evenly taken, with the states they have while a part of all is hidden.

    Every molecule is hidden once, a third of them at a time, so that each is told from the others.
    """
    counted = [piece for piece in rows_of(part, folds) if len(piece[-1])]
    total = sum(len(rows) for *_, rows in counted)
    every = max(1, -(-TURNS * total * len(part.plan.names) // DECODER_VALUES))
    generator, found = np.random.default_rng(seed), []
    for fold, data, rows in counted:
        device = data.section.device
        taken = torch.from_numpy(rows[::every]).to(device)
        counts = to_torch_csr(to_scipy_csr(part.observation(data).cpu())[rows[::every]]).to(device)
        depth = part.depth(data)[taken]
        turn = torch.from_numpy(generator.permutation(len(part.plan.names)) % TURNS).to(device)
        for now in range(TURNS):
            hidden = draw_hidden(fitting.model.parts_of("measurement"), fold.inputs, generator)
            asked = (turn == now).float()
            hidden.shown[part.key] = 1 - asked if len(turn) >= TURNS else torch.ones_like(asked)
            z = fitting.model(fold.inputs, hidden).z[part.plan.level][taken]
            found.append(
                Asked(z, counts, data.section_offset, data.section[taken], depth, torch.ones_like(depth), asked)
            )
    return found
