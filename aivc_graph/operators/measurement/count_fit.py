"""Closed forms of count measurements: profile, components, counting noise, decoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor

from aivc_graph.errors import ModelError
from aivc_graph.graph.tissue_graph import to_scipy_csr, to_torch_csr
from aivc_graph.operators.counts import CountInput
from aivc_graph.operators.hiding import draw_hidden
from aivc_graph.operators.measurement.distribution import NegativeBinomial, off
from aivc_graph.operators.measurement.moments import Piece, gram, moment_times, squares_of
from aivc_graph.operators.measurement.panel_components import Factors, PanelMoment, factors_of, joint_components
from aivc_graph.operators.part import Fitting
from aivc_graph.operators.ridge import ridge
from aivc_graph.operators.state import Fold

if TYPE_CHECKING:
    from aivc_graph.operators.measurement.negative_binomial import NegativeBinomialMeasurement as Measurement

Floats = NDArray[np.floating]

LEAST_PAIRS = 10
# Values that are made dense at once, and molecules up to which the whole second moment is kept.
MOST_VALUES, MOST_MOLECULES = 16_000_000, 4_000
SWEEPS, SPARE = 6, 10
# Values that the decoder is fitted to, and the scales that held-out tissue chooses from.
DECODER_VALUES, DECODER_STEPS, TURNS = 3_000_000, 60, 3
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)
# A scale above nothing has to earn this share of the negative log-likelihood.
WORTH = 1e-4


def _rows(part: Measurement, folds: list[Fold]) -> Iterator[tuple[Fold, CountInput, NDArray[np.int64]]]:
    for fold in folds:
        if ("measurement", *part.slot) in fold.inputs:
            data = fold.inputs.measured(*part.slot)
            yield fold, data, fold.training(part.plan.level, data.mask)


def fit_profile(part: Measurement, fitting: Fitting) -> None:
    """Dispersion of each molecule by moments around the profile of its section."""
    surplus, square = 0.0, 0.0
    chunk = max(1, MOST_VALUES // 4 // len(part.plan.names))
    for _, data, rows in _rows(part, fitting.training):
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
    for _, data, rows in _rows(part, fitting.training):
        section = data.section.cpu().numpy()[rows]
        scaled.append((to_scipy_csr(data.scaled.forward_csr.cpu())[rows], data.section_mean.cpu().numpy(), section))
        panels.append(data.panels.cpu().numpy()[data.panel_of.cpu().numpy()[section]])
    if not any(len(section) for _, _, section in scaled):
        return
    n, latent = len(part.plan.names), part.plan.latent
    if not all(panel.all() for panel in panels):
        return _keep_factors(part, joint_components(_moments(scaled, panels), n, latent, fitting.generator))
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
    _keep_factors(part, factors_of(vectors, along, squares))


def _keep_factors(part: Measurement, found: Factors) -> None:
    """Keep a factor model, each component with its largest loading above zero."""
    sign = np.sign(found.loading[np.abs(found.loading).argmax(axis=0), np.arange(part.plan.latent)])
    for buffer, values in (
        (part.loading, found.loading * sign),
        (part.variance, found.variance),
        (part.own_variance, found.own_variance),
    ):
        buffer.copy_(torch.from_numpy(np.ascontiguousarray(values)).float())


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


def thinning_noise(part: Measurement, fitting: Fitting) -> Tensor:
    """Return the counting noise of each latent dimension (latent,), from the difference of two thinned halves."""
    squares, number = np.zeros(part.plan.latent), 0
    for fold, data, rows in _rows(part, fitting.training):
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
        section = data.section.cpu().numpy()[rows]
        pairs.append((to_scipy_csr(data.scaled.forward_csr.cpu())[rows], data.section_mean.cpu().numpy(), section))
        z.append(first.encode(other).cpu().numpy()[rows])
        group.append(section)
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


@dataclass(frozen=True)
class _Asked:
    """Nodes with what was hidden of them: their state, counts, section profile, and which molecules count.

    `there` (section, molecule) are those that sections measured, None where all were.
    """

    z: Tensor
    counts: Tensor
    offset: Tensor
    section: Tensor
    molecule: Tensor
    there: Tensor | None

    def nll(self, part: Measurement, weight: Tensor) -> Tensor:
        bias = part.log_profile + self.offset
        said = NegativeBinomial(self.z, weight, bias, part.log_dispersion, self.section, self.z[:, 0], self.there)
        return said.nll(self.counts, torch.ones(len(self.z), device=self.z.device), self.molecule)


def fit_decoder(part: Measurement, fitting: Fitting) -> None:
    """Weights of the decoder by maximum likelihood of what was hidden, with a Gaussian prior, from zero to convergence.

    A state that had seen the counts would follow their noise, so nodes and molecules are hidden as in training. How
    much of the weights is kept is chosen on held-out tissue; nothing is the mean profile.
    """
    asked = _asked(part, fitting, fitting.training, fitting.seed)
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
    held_out = _asked(part, fitting, fitting.held_out, fitting.seed + 1) or asked
    fitted = weight.detach()
    losses = [sum(float(one.nll(part, fitted * scale)) for one in held_out) for scale in SCALES]
    best = int(np.argmin(losses))
    kept = SCALES[best] if losses[best] < losses[0] * (1 - WORTH) else 0.0
    part.weight.copy_(fitted * kept)


def _asked(part: Measurement, fitting: Fitting, folds: list[Fold], seed: int) -> list[_Asked]:
    """Return the measured nodes of `folds`, evenly taken, with the states they have while a part of all is hidden.

    Every molecule is hidden once, a third of them at a time, so that each is told from the others.
    """
    counted = [piece for piece in _rows(part, folds) if len(piece[-1])]
    total = sum(len(rows) for *_, rows in counted)
    every = max(1, -(-TURNS * total * len(part.plan.names) // DECODER_VALUES))
    generator, found = np.random.default_rng(seed), []
    for fold, data, rows in counted:
        device = data.section.device
        taken = torch.from_numpy(rows[::every]).to(device)
        counts = to_torch_csr(to_scipy_csr(data.counts.cpu())[rows[::every]]).to(device)
        turn = torch.from_numpy(generator.permutation(len(part.plan.names)) % TURNS).to(device)
        for now in range(TURNS):
            hidden = draw_hidden(fitting.model.parts_of("measurement"), fold.inputs, generator)
            asked = (turn == now).float()
            hidden.shown[part.key] = 1 - asked if len(turn) >= TURNS else torch.ones_like(asked)
            z = fitting.model(fold.inputs, hidden).z[part.plan.level][taken]
            found.append(_Asked(z, counts, data.section_offset, data.section[taken], asked, data.there))
    return found
