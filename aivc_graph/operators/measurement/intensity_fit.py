"""Closed forms of intensities: components, scatter, decoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.special import gammaln

from aivc_graph.operators.hiding import draw_hidden
from aivc_graph.operators.intensities import IntensityInput
from aivc_graph.operators.measurement.panel_components import factors_of, keep_factors
from aivc_graph.operators.measurement.told_state import no_pairs, told_state
from aivc_graph.operators.part import Fitting
from aivc_graph.operators.ridge import beyond_noise, ridge
from aivc_graph.operators.state import Fold
from aivc_graph.tissue.evenly import evenly

if TYPE_CHECKING:
    from aivc_graph.operators.measurement.intensity import IntensityMeasurement as Measurement

Floats = NDArray[np.floating]
# Values that the decoder is fitted to, and the shares of it that held-out tissue chooses from.
DECODER_VALUES, TURNS = 3_000_000, 3
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)
# A share above nothing, and heavy tails, have to earn this much of a value's log-likelihood [nats].
WORTH = 1e-3
# Degrees of freedom that a marker chooses from, and values it looks at.
FREEDOM = np.array([2.5, 4.0, 7.0, 15.0, 60.0])
SCATTER_ROWS, SCATTER_STEPS = 4_000, 30
LEAST_SCALE = 1e-3
# Share of zeros among the intensities beyond which densities say nothing of tails.
MANY_ZEROS = 0.1


def _rows(part: Measurement, folds: list[Fold]) -> Iterator[tuple[Fold, IntensityInput, NDArray[np.int64]]]:
    for fold in folds:
        data = fold.inputs.measured(*part.slot)
        rows = fold.training(part.plan.level, data.mask)
        if len(rows):
            yield fold, data, rows


def _observed(part: Measurement, folds: list[Fold]) -> Floats:
    """Return the standardised arcsinh of the nodes fitted on (node, marker)."""
    found = [data.observed.double().cpu().numpy()[rows] for _, data, rows in _rows(part, folds)]
    return np.concatenate([np.zeros((0, len(part.plan.names))), *found])


def fit_components(part: Measurement, fitting: Fitting) -> None:
    """Principal components of markers as they vary, the factor model that goes with them, and the noise they carry.

    What of a marker's own variance a projection picks up is the noise of the state; see `factors_of`.

    References
    ----------
    Tipping & Bishop 1999, doi:10.1111/1467-9868.00196 (probabilistic principal components).
    """
    x = np.nan_to_num(_observed(part, fitting.training)) * part.spread.double().cpu().numpy()
    if not len(x):
        return
    n, latent = len(part.plan.names), part.plan.latent
    moment = x.T @ x / len(x)
    along, vectors = eigh(moment, subset_by_index=(n - latent, n - 1))
    found = factors_of(vectors[:, ::-1], along[::-1], np.diag(moment))
    keep_factors(part, found)
    part.log_precision.copy_(torch.from_numpy(-np.log(found.own_variance @ found.loading**2)).float())


def fit_into_first(part: Measurement, fitting: Fitting) -> None:
    """Ridge from markers to the state that counts give where both were measured, and the error of it.

    Raises
    ------
    ModelError
        Hardly any training node has both.
    """
    rows = [fold.training(part.plan.level, fold.inputs.measured(*part.slot).mask) for fold in fitting.training]
    target = told_state(part.plan.level, fitting, rows)
    if target is None:
        raise no_pairs(part.slot, fitting.model.state_maker(part.plan.level).plan.modality)
    z, measured, noise = target
    pieces = [fold.inputs.measured(*part.slot) for fold in fitting.training]
    x, group = (
        np.concatenate([values[own] for values, own in zip(of, rows, strict=True)])[measured]
        for of in ([d.standard.double().cpu().numpy() for d in pieces], [d.section.cpu().numpy() for d in pieces])
    )
    x = x * part.spread.double().cpu().numpy()
    found = ridge(x, z[measured], group)
    error = beyond_noise(((z[measured] - x @ found) ** 2).mean(axis=0), noise)
    part.loading.copy_(torch.from_numpy(found).float())
    part.log_precision.copy_(torch.from_numpy(1 / error).float().log())


def fit_scatter(part: Measurement, fitting: Fitting) -> None:
    """Set how markers scatter around the mean profile of their section."""
    training = _observed(part, fitting.training)
    if len(training):
        held_out = training if fitting.held_out is fitting.training else _observed(part, fitting.held_out)
        _set_scatter(part, _family(part, fitting), training, held_out if len(held_out) else training)


def _family(part: Measurement, fitting: Fitting) -> str:
    """Return the option `noise`; normal in place of ``auto`` where many intensities are zero.

    At a value that many cells share a density rises without end as tails grow heavier: it cannot judge them.
    """
    zero = [data.nothing[rows].float().mean().item() for _, data, rows in _rows(part, fitting.training)]
    return "normal" if part.noise == "auto" and np.mean(zero) > MANY_ZEROS else part.noise


def _set_scatter(part: Measurement, family: str, residual: Floats, held_out: Floats) -> None:
    """Set scale and tails of each marker by `residual` (node, marker), ``auto`` by what `held_out` is likelier by.

    References
    ----------
    Lange, Little & Taylor 1989, doi:10.1080/01621459.1989.10478852 (scale of a Student-t by expectation–maximisation).
    """
    some = residual[evenly(len(residual), SCATTER_ROWS)]
    scale = np.sqrt(np.maximum(np.nanmean(residual**2, axis=0), LEAST_SCALE**2))
    found = scale, np.full(len(scale), np.inf)
    if family != "normal":
        scales, losses = [], []
        for freedom in FREEDOM:
            square = np.maximum(scale**2, LEAST_SCALE**2)
            for _ in range(SCATTER_STEPS):
                shrunk = (freedom + 1) * some**2 / (freedom * square + some**2)
                square = np.maximum(square * np.nanmean(shrunk, axis=0), LEAST_SCALE**2)
            scales.append(np.sqrt(square))
            losses.append(np.nanmean(_losses(some, scales[-1], np.full(len(scale), freedom)), axis=0))
        best = np.argmin(losses, axis=0)
        heavy = np.take_along_axis(np.array(scales), best[None], 0)[0], FREEDOM[best]
        gain = np.nanmean(_losses(held_out, *found)) - np.nanmean(_losses(held_out, *heavy))
        found = heavy if family == "student_t" or gain > WORTH else found
    part.log_scale.copy_(torch.from_numpy(np.log(found[0])).float())
    part.freedom.copy_(torch.from_numpy(found[1]).float())


def _losses(residual: Floats, scale: Floats, freedom: Floats) -> Floats:
    """Return the negative log-density of each residual (node, marker), normal where freedom has no end."""
    away = (residual / scale) ** 2
    if not np.isfinite(freedom).all():
        return np.asarray(0.5 * away + np.log(scale) + 0.5 * np.log(2 * np.pi))
    top = gammaln((freedom + 1) / 2) - gammaln(freedom / 2) - 0.5 * np.log(freedom * np.pi)
    return np.asarray((freedom + 1) / 2 * np.log1p(away / freedom) + np.log(scale) - top)


@dataclass(frozen=True)
class _Asked:
    """Nodes with a third of their markers hidden: state (node, latent), markers (node, marker), and which are asked."""

    z: Floats
    x: Floats
    asked: NDArray[np.bool_]


def fit_decoder(part: Measurement, fitting: Fitting) -> None:
    """Weights of the decoder by ridge from the state to what was hidden of it, and the scatter that is left.

    A state that had seen the markers would follow their noise, so nodes and markers are hidden as in training. How
    much of the weights is kept is chosen on held-out tissue; nothing is the mean profile.
    """
    turn = np.random.default_rng(fitting.seed).permutation(len(part.plan.names)) % TURNS
    training = _asked(part, fitting, fitting.training, turn, fitting.seed)
    if not training:
        return
    weight = _ridge(training)
    apart = fitting.held_out is not fitting.training
    held_out = (_asked(part, fitting, fitting.held_out, turn, fitting.seed + 1) if apart else training) or training
    family = _family(part, fitting)
    before = part.log_scale.double().cpu().numpy(), part.freedom.double().cpu().numpy()
    chosen, least = 0.0, _mean_loss(held_out, weight * 0.0, np.exp(before[0]), before[1]) - WORTH
    for share in SCALES[1:]:
        part.weight.copy_(torch.from_numpy(weight * share).float())
        left = (_residual(one, weight * share) for one in (training, held_out))
        _set_scatter(part, family, *left)
        scale, freedom = part.log_scale.double().exp().cpu().numpy(), part.freedom.double().cpu().numpy()
        loss = _mean_loss(held_out, weight * share, scale, freedom)
        if loss < least:
            chosen, least, kept = share, loss, (part.log_scale.clone(), part.freedom.clone())
    if chosen == 0.0:
        kept = torch.from_numpy(before[0]).float(), torch.from_numpy(before[1]).float()
    part.weight.copy_(torch.from_numpy(weight * chosen).float())
    part.log_scale.copy_(kept[0])
    part.freedom.copy_(kept[1])


def _asked(part: Measurement, fitting: Fitting, folds: list[Fold], turn: NDArray[np.int64], seed: int) -> list[_Asked]:
    """Return the measured nodes of `folds`, evenly taken, with the states they have while a part of all is hidden."""
    pieces = list(_rows(part, folds))
    total = sum(len(rows) for *_, rows in pieces)
    every = max(1, -(-TURNS * total * len(part.plan.names) // DECODER_VALUES))
    generator, found = np.random.default_rng(seed), []
    for fold, data, rows in pieces:
        x = data.observed.double().cpu().numpy()[rows[::every]]
        for now in range(TURNS):
            hidden = draw_hidden(fitting.model.parts_of("measurement"), fold.inputs, generator)
            asked = turn == now
            shown = ~asked if len(turn) >= TURNS else np.ones(len(turn), bool)
            hidden.shown[part.key] = torch.from_numpy(shown.astype(np.float32)).to(data.standard)
            z = fitting.model(fold.inputs, hidden).z[part.plan.level].double().cpu().numpy()[rows[::every]]
            found.append(_Asked(z, x, asked))
    return found


def _ridge(asked: list[_Asked]) -> Floats:
    """Return the weights (marker, latent) of each marker from the states that had not seen it."""
    weight = np.zeros((asked[0].x.shape[1], asked[0].z.shape[1]))
    for now in range(TURNS):
        mine = asked[now::TURNS]
        markers = mine[0].asked
        gram = np.sum([one.z.T @ one.z for one in mine], axis=0)
        cross = np.sum([one.z.T @ np.nan_to_num(one.x[:, markers]) for one in mine], axis=0)
        # A weak prior: that of a weight of about one for each of two more nodes.
        penalty = 2.0 * np.trace(gram) / max(sum(len(one.z) for one in mine), 1) + 1e-9
        weight[markers] = np.linalg.solve(gram + penalty * np.eye(len(gram)), cross).T
    return weight


def _residual(asked: list[_Asked], weight: Floats) -> Floats:
    """Return what is left of hidden markers (node, marker), those of a node at the turns that asked for them."""
    found = []
    for start in range(0, len(asked), TURNS):
        left = np.empty_like(asked[start].x)
        for one in asked[start : start + TURNS]:
            left[:, one.asked] = one.x[:, one.asked] - one.z @ weight[one.asked].T
        found.append(left)
    return np.concatenate(found)


def _mean_loss(asked: list[_Asked], weight: Floats, scale: Floats, freedom: Floats) -> float:
    return float(np.nanmean(_losses(_residual(asked, weight), scale, freedom)))
