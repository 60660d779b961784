"""One modality from one other, as numbers that a run keeps: what its rules come to, for any cell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aivc_graph.graph.terms import Depth, dense
from aivc_graph.operators.prediction.modality_rules import (
    LEAST_TRAINED,
    MOST_NEAR,
    Cells,
    Codes,
    Ground,
    Said,
    chosen,
    ground_of,
    mixed,
    rules,
)
from aivc_graph.operators.prediction.rest_of_panel import RestOfPanel, levelled
from aivc_graph.operators.regressions import COMPONENTS
from aivc_graph.operators.subspace import along, axes_told, leading_axes
from aivc_graph.settings import Settings

Floats = NDArray[np.floating[Any]]
# Features up to which they are taken as they are, else as so many principal components; and the same of targets.
MOST_FEATURES, FEATURE_AXES = 1_000, 300
MOST_TARGETS, TARGET_AXES = 500, 300


class MapPlan(Settings):
    """Features of one modality, and of how many cells, from which the targets of another are told.

    Parameters
    ----------
    modality, n_features, depth
        What the target is told from; the depth its counts are scaled to, or the cofactors of its markers.
    n_cells
        Training cells that have both.
    n_targets, latent
        Sizes of the target and of the state.
    free
        Whether targets of a part of the panel are known but for a level of each cell.
    """

    modality: str
    n_features: int
    depth: Depth
    n_cells: int
    n_targets: int
    latent: int
    free: bool = False


class ModalityMap(nn.Module):
    """Tell targets from features and the state of a cell by the mixture of rules of `modality_rules.chosen`.

    Its zero, before it is fitted and where the rule of the mean has all the weight, is the mean over training cells. No
    array of features by features, or of targets by targets, is made: of more than 1,000 features 300 principal
    components are looked at, more than 500 targets are told along 300 axes, see `axes_told`. Of cells that measured a
    part of up to 500 targets the others are told from that part as well (`RestOfPanel`).
    """

    centre: Tensor
    state_centre: Tensor
    linear: Tensor
    of_state: Tensor
    axes: Tensor
    near: Tensor
    of_kernel: Tensor
    nearest: Tensor
    width: Tensor
    share_of_nearest: Tensor
    mean: Tensor
    back: Tensor
    number: Tensor
    error: Tensor

    def __init__(self, plan: MapPlan) -> None:
        super().__init__()
        self.plan = plan
        f, k, n = plan.n_features, plan.n_targets, max(min(plan.n_cells, MOST_NEAR), 1)
        q, c = k if k <= MOST_TARGETS else TARGET_AXES, min(f, COMPONENTS)
        sizes = {
            "centre": (f,), "state_centre": (plan.latent,), "linear": (f, q), "of_state": (plan.latent, q),
            "axes": (f, c), "near": (n, c), "of_kernel": (n, q), "nearest": (n, q), "mean": (k,), "back": (q, k),
        }  # fmt: skip
        for name, size in sizes.items():
            self.register_buffer(name, torch.zeros(size))
        for name in ("width", "share_of_nearest", "error"):
            self.register_buffer(name, torch.ones(()))
        self.register_buffer("number", torch.zeros((), dtype=torch.int64))
        self.rest = RestOfPanel(k, free=plan.free) if k <= MOST_TARGETS else None

    @property
    def fitted(self) -> bool:
        """Whether there were cells enough to learn from."""
        return bool(self.number)

    def fit(self, x: Any, state: Floats, y: Any, group: Codes, judged_by: Floats | None = None) -> None:
        """Fit the rules and their weights; with fewer than forty cells nothing is fitted.

        Parameters
        ----------
        x, y
            Features and targets of training cells (cell, f) and (cell, k), sparse or dense.
        state
            Their state after messages, the target not seen (cell, latent).
        group
            What is left out in turn to choose weights, such as the donor (cell,).
        judged_by
            States by which weights are chosen (cell, latent), where `state` was taught by the targets of the cells.
        """
        self.number.zero_()
        if x.shape[0] < LEAST_TRAINED:
            return
        centre, mean = (np.asarray(one.mean(axis=0), np.float64).ravel() for one in (x, y))
        turn = None if x.shape[1] <= MOST_FEATURES else leading_axes(x, centre, FEATURE_AXES)
        features, own = dense(x) - centre if turn is None else along(x, centre, turn), state - state.mean(axis=0)
        few = len(mean) <= MOST_TARGETS
        back = np.eye(len(mean)) if few else axes_told(_heard(features, own), y, TARGET_AXES)
        told = Cells(features, own, dense(y) - mean if few else along(y, mean, back))
        choice = chosen(self._judged(told, y, mean, judged_by), group)
        ground = ground_of(told)
        said = mixed(rules(told, ground, choice.penalties), choice.weights)
        if self.rest is not None:
            self.rest.fit(choice.left_open, told.y[choice.some], choice.fold)
        through = (lambda one: one) if turn is None else (lambda one: turn @ one)
        found = {
            "centre": centre, "state_centre": state.mean(axis=0), "linear": through(said.linear),
            "of_state": said.of_state, "axes": through(ground.axes), "near": ground.near, "of_kernel": said.of_kernel,
            "nearest": ground.target, "width": ground.width, "share_of_nearest": said.nearest, "mean": mean,
            "back": back.T, "error": choice.error,
        }  # fmt: skip
        for name, value in found.items():
            _put(self.get_buffer(name), np.asarray(value))
        self.number.fill_(len(ground.near))

    def _judged(self, told: Cells, y: Any, mean: Floats, state: Floats | None) -> Cells:
        """Return the cells that choose between rules: with another `state` if given, and targets seen from outside.

        The axes of many targets lie as the noise of all cells does, those left out too, and would side with whatever
        follows it. Random directions have the same squared error on average.

        References
        ----------
        Johnson & Lindenstrauss 1984, doi:10.1090/conm/026/737400.
        """
        found = told if state is None else replace(told, state=state)
        if len(mean) <= MOST_TARGETS:
            return found
        drawn = np.random.default_rng(0).standard_normal((len(mean), MOST_TARGETS)) / np.sqrt(MOST_TARGETS)
        return replace(found, y=along(y, mean, drawn))

    @torch.no_grad()
    def forward(self, x: Any, state: Floats, known: NDArray[np.bool_] | None = None) -> Floats:
        """Return the targets (asked, k) of cells with features `x` (asked, f), sparse or dense, and a state.

        Features that are not `known` (asked, f) are taken to be as on average over training cells.
        """
        held = {name: value.double().cpu().numpy() for name, value in self.named_buffers(recurse=False)}
        n, x = int(self.number), x if known is None else np.where(known, dense(x), held["centre"])
        ground = Ground(np.eye(held["axes"].shape[1]), held["near"][:n], held["nearest"][:n], float(held["width"]))
        own = along(x, held["centre"], held["axes"])
        said = Said(of_kernel=held["of_kernel"][:n], nearest=float(held["share_of_nearest"]))
        told = said(Cells(own, own[:, :0], own), ground)
        told = told + along(x, held["centre"], held["linear"]) + (state - held["state_centre"]) @ held["of_state"]
        return np.asarray(held["mean"] + told @ held["back"])

    def completed(self, told: Floats, measured: Floats, known: NDArray[np.bool_]) -> Floats:
        """Return the targets (asked, k) of cells of which a part was `measured` and `known` (asked, k).

        What was told of them by the features stands where the panel is too wide to be completed.
        """
        if self.rest is None:
            return told
        values = levelled(measured, known, told) if self.rest.free else measured
        return cast(Floats, self.rest(told, values, known, self.mean.double().cpu().numpy()))


def _heard(features: Floats, state: Floats) -> Floats:
    """Return all that rules are linear in (cell, f): features, the state, and the kernel to some of the cells."""
    nothing = np.zeros((len(features), 0))
    ground = ground_of(Cells(features, nothing, nothing), TARGET_AXES)
    kernel = ground.kernel(features @ ground.axes)
    return np.hstack([features, state, kernel - kernel.mean(axis=0)])


def _put(held: Tensor, value: Floats) -> None:
    """Fill a buffer from its first row and column on; what is left of it is nothing."""
    held.zero_()
    held[tuple(slice(n) for n in value.shape)] = torch.from_numpy(value).to(held)
