"""Decoders of counts by maximum likelihood of what was hidden, and the parameters of their laws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from aivc_graph.graph.tissue_graph import to_scipy_csr, to_torch_csr
from aivc_graph.operators.hiding import draw_hidden
from aivc_graph.operators.measurement.count_fit import rows_of
from aivc_graph.operators.part import Fitting
from aivc_graph.operators.state import Fold

if TYPE_CHECKING:
    from aivc_graph.operators.measurement.distribution import AbstractCounts
    from aivc_graph.operators.measurement.negative_binomial import NegativeBinomialMeasurement as Measurement

Mixture = dict[str, Tensor]
Said = Callable[["Asked", Mixture], "AbstractCounts"]
Prior = Callable[[Mixture], Tensor]

# Values that the decoder is fitted to, and the scales that held-out tissue chooses from.
DECODER_VALUES, DECODER_STEPS, TURNS = 3_000_000, 60, 3
# A step that gains less, a node [nats], is the last.
ENOUGH = 1e-3
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)
# Steps in which the parameters of a law are fitted to a decoder; where nobody is held out, one node in so many judges
# them, and they have to earn so much, a node and molecule [nats].
LAW_STEPS, ONE_IN, LEAST_GAIN = 60, 3, 1e-3
# A scale above nothing has to earn this share of the negative log-likelihood.
WORTH = 1e-4


@dataclass(frozen=True)
class Asked:
    """Nodes with what was hidden of them: state, counts, depth, section profile, and which nodes and molecules count.

    `there` (section, molecule) are those that sections measured, None where all were.
    """

    z: Tensor
    counts: Tensor
    offset: Tensor
    section: Tensor
    depth: Tensor
    node: Tensor
    molecule: Tensor
    there: Tensor | None

    def nll(self, part: Measurement, weight: Tensor) -> Tensor:
        """Return the negative log-likelihood of what was hidden, by a decoder's weights."""
        return self.nll_of(part.given(self.z, weight, self.offset, self.section, self.depth))

    def nll_of(self, said: AbstractCounts) -> Tensor:
        """Return the negative log-likelihood of what was hidden and measured."""
        return replace(said, there=self.there).nll(self.counts, self.node, self.molecule)

    def by_molecule(self, said: AbstractCounts) -> Tensor:
        """Return the log-likelihood of what was hidden and measured of each molecule (molecule,)."""
        return (self.node @ replace(said, there=self.there).log_prob(self.counts.to_dense())) * self.molecule

    def number(self) -> Tensor:
        """Return how many nodes were measured and are asked about, of each molecule (molecule,)."""
        if self.there is None:
            return self.node.sum() * self.molecule
        return (self.node @ self.there[self.section].to(self.node)) * self.molecule

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
    number = sum(len(one.z) for one in asked)
    spread = torch.stack([one.z.square().sum(dim=0) for one in asked]).sum(dim=0) / number
    # In units of the spread of each dimension the search takes a third fewer steps.
    unit = torch.where(spread > 0, spread.clamp_min(1e-12).rsqrt(), 0.0)
    weight = torch.zeros_like(part.weight, requires_grad=True)
    if bool(spread.any()):
        optimiser = torch.optim.LBFGS(
            [weight], max_iter=DECODER_STEPS, history_size=20, line_search_fn="strong_wolfe", tolerance_change=ENOUGH
        )

        def loss() -> Tensor:
            total = sum((one.nll(part, weight * unit) for one in asked), torch.zeros((), device=weight.device))
            value = (total + 2.0 * spread.sum() * (weight * unit).square().sum()) / number
            (weight.grad,) = torch.autograd.grad(value, [weight])
            return value

        with torch.enable_grad():
            optimiser.step(loss)
    held_out = asked_of(part, fitting, fitting.held_out, fitting.seed + 1) or asked
    fitted = weight.detach() * unit
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
    number = sum(one.number() for one in judges)
    found = tried if learners is asked else _fitted(asked, start, said, prior)
    return found, torch.as_tensor(gain > LEAST_GAIN * number, device=part.weight.device)


def _fitted(asked: list[Asked], start: Mixture, said: Said, prior: Prior) -> Mixture:
    found = {name: value.clone().requires_grad_() for name, value in start.items()}
    number = sum(float(one.node.sum()) for one in asked)
    optimiser = torch.optim.LBFGS(found.values(), max_iter=LAW_STEPS, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        value = (sum((one.nll_of(said(one, found)) for one in asked), prior(found))) / max(number, 1.0)
        for leaf, slope in zip(found.values(), torch.autograd.grad(value, list(found.values())), strict=True):
            leaf.grad = slope
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
            section = data.section[taken]
            found.append(
                Asked(z, counts, data.section_offset, section, depth, torch.ones_like(depth), asked, data.there)
            )
    return found
