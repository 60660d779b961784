"""Closed form of labels: where classes lie, what the state says of them, and how far each rule is followed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph.operators.logistic import cross_fitted, discriminants, mixed, nearest_means, regressions
from aivc_graph.operators.part import Fitting
from aivc_graph.operators.state import Hidden, Inputs, State

if TYPE_CHECKING:
    from aivc_graph.operators.measurement.categorical import CategoricalMeasurement

# Rows that a rule is fitted on.
MOST_ROWS, LEAST_ROWS = 20_000, 20
# Of counts of many molecules fewer rows: so many values in all.
MOST_VALUES = 4_000_000
# What can be said where no neighbour bears a label: by the prior, the state and the node's own measurement.
ALONE = [0, 4, 6, 7]
# Of these, by the node's own measurement.
OWN = [6, 7]
# Of the variance of a state that is made of labels, how much a label leaves open.
LEFT_OPEN = 0.01
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Examples:
    """Labelled nodes, told without their label.

    `z` (row, latent), `logs` of the shares of types around (row, 3 · class); `own`, logarithms of counts or intensities
    (row, molecule), no column where they were not measured or not to be seen; `kind`, `group` and `around` (row,): the
    class, the donor, and whether any neighbour bears a label.
    """

    z: Floats
    logs: Floats
    own: Floats
    kind: NDArray[np.int64]
    group: NDArray[np.int64]
    around: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.kind)


def fit_places(part: CategoricalMeasurement) -> None:
    """Lay class c at :math:`(e_c - \\pi)\\,V`, V the principal axes of one-hot labels of frequencies π."""
    share = part.prior.double().cpu().numpy()
    values, axes = np.linalg.eigh(np.diag(share) - np.outer(share, share))
    order = np.argsort(-values)[: min(part.plan.latent, len(share) - 1)]
    loading = np.zeros(tuple(part.loading.shape))
    loading[:, : len(order)] = (np.eye(len(share)) - share) @ axes[:, order]
    variance = np.full(part.plan.latent, values.max())
    variance[: len(order)] = values[order]
    part.loading.copy_(torch.from_numpy(loading))
    part.log_precision.copy_(-torch.log(torch.from_numpy(np.maximum(LEFT_OPEN * variance, 1e-8))))


def fit_class_means(part: CategoricalMeasurement, fitting: Fitting) -> None:
    """Lay each class at the mean of the states that its nodes have without it, as surely as these are alike."""
    level, number = part.plan.level, np.zeros(part.n_types)
    total, squares = np.zeros((2, part.n_types, part.plan.latent))
    for fold in fitting.training:
        data = fold.inputs.measured(*part.slot)
        state = fitting.model.encode(fold.inputs, Hidden(nodes={part.key: torch.ones_like(data.mask)}))
        rows = fold.training(level, data.mask * state.own[level])
        z, onehot = state.z[level].double().cpu().numpy()[rows], data.onehot.cpu().numpy()[rows]
        number += onehot.sum(axis=0)
        total += onehot.T @ z
        squares += onehot.T @ z**2
    if number.sum() < LEAST_ROWS:
        return
    # A class of few nodes is drawn towards the mean of all, by one node.
    mean = (total + total.sum(axis=0) / number.sum()) / (number + 1)[:, None]
    within = (squares - 2 * mean * total + number[:, None] * mean**2).sum(axis=0) / number.sum()
    part.loading.copy_(torch.from_numpy(mean))
    part.log_precision.copy_(-torch.log(torch.from_numpy(np.maximum(within, 1e-6))))


def fit_likelihood(part: CategoricalMeasurement, fitting: Fitting) -> None:
    """Fit multinomial logistic regression from the state of nodes that were hidden to their labels."""
    found, head = gathered(part, fitting, hidden=True), int(not part.plan.first)
    if len(found) >= LEAST_ROWS:
        fitted = cross_fitted(found.z, found.kind, found.group, _prior(part))[0]
        part.weight[head] = torch.from_numpy(fitted.weight).to(part.weight)
        part.bias[head] = torch.from_numpy(fitted.bias).to(part.bias)


def fit_rules(part: CategoricalMeasurement, fitting: Fitting) -> dict[str, float]:
    """Fit regressions on all training nodes, and the weights of rules on what regressions say of other groups.

    Nodes of which something else was seen are looked at as they are, and once more with all of it hidden.

    Returns the negative log-likelihood of labels [nats] by the class prior and by the mixture, in each situation.
    """
    diagnostics: dict[str, float] = {}
    for own in (0,) if part.plan.first else (0, 1):
        found = gathered(part, fitting, hidden=own == 0)
        if len(found) < LEAST_ROWS:
            continue
        said = _said(part, own, found)
        # Where nothing else was seen, what was measured of the node says nothing beside the prior.
        rules = [r for r in range(len(said)) if own or r not in OWN]
        for around, which in enumerate(([r for r in rules if r in ALONE], rules)):
            rows = said[which][:, found.around] if around else said[which]
            if rows.shape[1] < LEAST_ROWS:
                continue
            share = np.zeros(len(said))
            share[which] = mixed(rows)
            part.rule_share[own, around] = torch.from_numpy(share).float()
            where = f"{part.name}.{'seen' if own else 'hidden'}.{'labelled' if around else 'alone'}"
            diagnostics[f"{where}.prior"] = -float(np.log(rows[0]).mean())
            diagnostics[f"{where}.told"] = -float(np.log(share[which] @ rows).mean())
    return diagnostics


def _said(part: CategoricalMeasurement, own: int, found: Examples) -> Floats:
    """Fit the regressions, and return the probability that each rule, fitted elsewhere, gives to labels (rule, row)."""
    prior, both = _prior(part), np.concatenate([found.z, found.logs], axis=1)
    learnt = []
    for x, weight, bias in (
        (found.z, part.weight, part.bias),
        (both, part.around_weight, part.around_bias),
    ):
        fitted, told = cross_fitted(x, found.kind, found.group, prior)
        weight[own], bias[own] = torch.from_numpy(fitted.weight).to(weight), torch.from_numpy(fitted.bias).to(bias)
        learnt.append(told)
    for families, weight, bias in (
        ((regressions, discriminants), part.own_weight, part.own_bias),
        ((nearest_means,), part.nearest_weight, part.nearest_bias),
    ):
        if not (found.own.shape[1] and np.isfinite(found.own).all()):
            learnt.append(np.broadcast_to(prior, learnt[0].shape))
            continue
        fitted, told = cross_fitted(found.own, found.kind, found.group, prior, families)
        weight.copy_(torch.from_numpy(fitted.weight))
        bias.copy_(torch.from_numpy(fitted.bias))
        learnt.append(told)
    shares = np.exp(found.logs).reshape(len(found), 3, -1)
    rules = np.stack([np.broadcast_to(prior, learnt[0].shape), *shares.transpose(1, 0, 2), *learnt])
    return np.asarray(np.take_along_axis(rules, found.kind[None, :, None], axis=2)[:, :, 0])


def gathered(part: CategoricalMeasurement, fitting: Fitting, *, hidden: bool) -> Examples:
    """Return labelled training nodes, each without its label; if `hidden`, without anything else seen of it either."""
    found: list[Examples] = []
    donor = fitting.donor
    total = sum(
        float((fold.rows[part.plan.level] * fold.inputs.measured(*part.slot).mask).sum()) for fold in fitting.training
    )
    most = MOST_ROWS if hidden or not part.plan.n_own else min(MOST_ROWS, MOST_VALUES // part.plan.n_own)
    step = max(1, int(np.ceil(total / most)))
    for fold in fitting.training:
        data = fold.inputs.measured(*part.slot)
        for state, asked in told_by_turns(part, fitting.model, fold.inputs, hidden=hidden):
            rows = fold.training(part.plan.level, data.mask * asked)[::step]
            own = torch.zeros(len(data.mask), 0)
            if part.plan.n_own and not hidden:
                own = part.weighed_own(fold.inputs, torch.eye(part.plan.n_own, device=data.mask.device))
            shares = [one.log() for one in part.shares_around(state, fold.inputs)]
            found.append(
                Examples(
                    state.z[part.plan.level].double().cpu().numpy()[rows],
                    torch.cat(shares, dim=1).double().cpu().numpy()[rows],
                    own.double().cpu().numpy()[rows],
                    data.onehot.argmax(dim=1).cpu().numpy()[rows],
                    donor[data.section.cpu().numpy()[rows]],
                    part.situation(state, fold.inputs)[1].cpu().numpy()[rows] > 0,
                )
            )
    columns = ([getattr(one, name) for one in found] for name in ("z", "logs", "own", "kind", "group", "around"))
    return Examples(*(np.concatenate(column) for column in columns))


def told_by_turns(
    part: CategoricalMeasurement, model: Any, inputs: Inputs, *, hidden: bool = False
) -> Iterator[tuple[State, Tensor]]:
    """Yield states of a window in which some nodes are told without their label, and who these are (node,).

    Everybody at once, where labels take no part in the state and nothing else is to be `hidden`; else by turns.
    """
    turn = inputs.measured(*part.slot).turn
    if not (hidden or part.seen):
        yield model(inputs, Hidden()), torch.ones(len(turn), device=inputs.device)
        return
    keys = [one.key for one in model.parts_of("measurement") if one.plan.level == part.plan.level]
    for one in turn.unique():
        who = (turn == one).float()
        yield model(inputs, Hidden(nodes=dict.fromkeys(keys if hidden else [part.key], who))), who


def _prior(part: CategoricalMeasurement) -> Floats:
    return part.prior.double().cpu().numpy()
