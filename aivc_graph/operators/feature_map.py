"""From features of a node to what is asked of it, as numbers that a run keeps: ridge, and what departs from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.gate import LEAST_LEFT_OUT, opening_of
from aivc_graph.operators.kernels import squared_distances
from aivc_graph.operators.measured import mean_there, measured_alike
from aivc_graph.operators.regressions import COMPONENTS, NEIGHBOURS, principal_axes
from aivc_graph.operators.ridge import ridge_by_axes
from aivc_graph.operators.stacking import shares_of_rules
from aivc_graph.operators.state import Inputs
from aivc_graph.tissue.evenly import evenly

Floats = NDArray[np.floating]
Codes = NDArray[np.integer]
RULES = ("ridge", "ridge with surroundings", "kernel ridge", "nearest nodes", "mean")
NESTED = np.eye(len(RULES))[0]
# Nodes that kernels and neighbours are taken from, evenly, and asked at once; nodes to learn from, at the least.
MOST_NEAR, MOST_AT_ONCE, LEAST_NODES = 4_000, 2_000, 40
LEAST_ROWS = 10
PENALTY = 1.0


class Ground:
    """Nodes that kernel ridge and neighbours rest on: their components, the kernel's width, weights and targets.

    Parameters
    ----------
    x, y
        Features and targets about their mean (node, f), (node, k).
    """

    def __init__(self, x: Floats, y: Floats) -> None:
        some = evenly(len(x), MOST_NEAR)
        self.axes = principal_axes(x)
        self.near, self.target = x[some] @ self.axes, y[some]
        squares = squared_distances(self.near, self.near)
        self.width = float(np.median(squares)) or 1.0
        kernel = np.exp(-squares / self.width)
        self.weight = np.linalg.solve(kernel + PENALTY * np.eye(len(kernel)), self.target)


def learned_from(graph: TissueGraph, level: str, features: str, target: str) -> int:
    """Return the number of nodes outside of the test split of which both modalities were seen."""
    seen = graph[level][names.mask_name(features)] & graph[level][names.mask_name(target)]
    return int((seen & ~graph.in_split(level, names.TEST)).sum())


def own_and_around(inputs: Inputs, level: str, kinds: Iterable[str]) -> tuple[Tensor, Tensor]:
    """Return features of each node, beside their mean over its nearest neighbours (node, 2 f), and who has any (node,).

    Features of several kinds stand side by side; nobody has features who lacks one of them. Zero, the mean of a
    section, where no neighbour has any.
    """
    data = [inputs.measured(level, kind) for kind in kinds]
    own, seen = torch.cat([one.standard for one in data], dim=1), torch.stack([one.mask for one in data]).all(dim=0)
    around, visible = torch.zeros_like(own), seen.to(own)[:, None]
    for ring in inputs.rings(level)[:1]:
        around = ring @ (own * visible) / (ring @ visible).clamp_min(1.0)
    return torch.cat([own, around], dim=1), seen


def kernel_and_nearest(at: Floats, near: Floats, width: float) -> tuple[Floats, Floats]:
    """Return the kernel to every node, and the share of each in the mean of the 25 nearest, both (asked, node)."""
    squares = squared_distances(at, near)
    k = min(NEIGHBOURS, len(near))
    mean = np.zeros_like(squares)
    np.put_along_axis(mean, np.argpartition(squares, k - 1, axis=1)[:, :k], 1 / k, axis=1)
    return np.exp(-squares / width), mean


def weights_of_rules(x: Floats, y: Floats, section: Codes, donor: Codes) -> Floats:
    r"""Return the weight of each of `RULES` (rule,), ridge alone unless what donors left out gain bears out more.

    .. math:: w = (1 - o)\,e_{\mathrm{ridge}} + o\,\arg\min_{w \ge 0,\ \sum w = 1}
              \sum_d \lVert y_d - \sum_k w_k f_k^{-d} \rVert^2

    with :math:`f^{-d}` fitted without donor d. The opening o is Stein's factor (`opening_of`) of what each donor gains
    over ridge by weights that were chosen without it as well; fewer than four donors open nothing.
    """
    donors = np.unique(donor)
    if len(donors) < LEAST_LEFT_OUT:
        return NESTED
    squares, crosses = np.zeros((len(donors), len(RULES), len(RULES))), np.zeros((len(donors), len(RULES)))
    gains, number = np.zeros((2, len(donors)))
    for i, one in enumerate(donors):
        kept, out = donor != one, np.flatnonzero(donor == one)
        if kept.sum() < LEAST_NODES:
            return NESTED
        out = out[evenly(len(out), MOST_AT_ONCE)]
        said = said_by_rules(x[kept], y[kept], section[kept], x[out])
        squares[i] = [[np.vdot(a, b) for b in said] for a in said]
        crosses[i], number[i] = [np.vdot(a, y[out]) for a in said], len(out)

    def chosen(kept: NDArray[np.bool_]) -> Floats:
        return shares_of_rules(squares[kept].sum(axis=0), crosses[kept].sum(axis=0), NESTED)

    for i in range(len(donors)):
        w = chosen(np.arange(len(donors)) != i)
        loss = [v @ squares[i] @ v - 2 * v @ crosses[i] for v in (NESTED, w)]
        gains[i] = (loss[0] - loss[1]) / number[i]
    opening = opening_of(gains)
    return (1 - opening) * NESTED + opening * chosen(np.ones(len(donors), bool)) if opening else NESTED


def said_by_rules(x: Floats, y: Floats, section: Codes, asked: Floats) -> list[Floats]:
    """Return what each of `RULES`, fitted to features and targets, says of others (asked, k)."""
    centre, mean, f = x.mean(axis=0), y.mean(axis=0), x.shape[1] // 2
    about, asked = x - centre, asked - centre
    ground = Ground(about[:, :f], y - mean)
    kernel, nearest = kernel_and_nearest(asked[:, :f] @ ground.axes, ground.near, ground.width)
    linear = (asked[:, :n] @ ridge_by_axes(about[:, :n], y - mean, section) for n in (f, 2 * f))
    told = (*linear, kernel @ ground.weight, nearest @ ground.target)
    return [mean + one for one in told] + [np.broadcast_to(mean, told[0].shape)]


class FeatureMap(nn.Module):
    """Tell targets from features: ridge, and as far as donors bear it out ridge that sees neighbours, and other rules.

    By the weights of `weights_of_rules`; those of the two ridges are within `linear`.

    Shapes
    ------
    features, out
        own features beside those around (node, 2 feature), as of `own_and_around`; (node, target)

    References
    ----------
    Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634 (ridge; see `ridge_by_axes` for its penalties).
    Breiman 1996, doi:10.1007/BF00117832 (stacking).
    """

    share: Tensor
    centre: Tensor
    mean: Tensor
    linear: Tensor
    axes: Tensor
    near: Tensor
    kernel: Tensor
    target: Tensor
    width: Tensor
    number: Tensor

    def __init__(self, n_features: int, n_nodes: int, n_targets: int) -> None:
        super().__init__()
        n, c = max(min(n_nodes, MOST_NEAR), 1), min(n_features, COMPONENTS)
        sizes = {
            "share": (len(RULES),), "centre": (2 * n_features,), "mean": (n_targets,),
            "linear": (2 * n_features, n_targets), "axes": (n_features, c), "near": (n, c),
            "kernel": (n, n_targets), "target": (n, n_targets), "width": (),
        }  # fmt: skip
        for name, size in sizes.items():
            self.register_buffer(name, torch.zeros(size))
        self.register_buffer("number", torch.zeros((), dtype=torch.int64))

    @classmethod
    def of(cls, held: Mapping[str, NDArray[Any]]) -> FeatureMap:
        """Return a map of numbers that one has held, by name."""
        one = cls(len(held["axes"]), len(held["near"]), len(held["mean"]))
        one.load_state_dict({name: torch.as_tensor(value) for name, value in held.items()})
        return one

    @property
    def fitted(self) -> bool:
        """Whether there were nodes enough to learn from."""
        return bool(self.number)

    def fit(self, x: Floats, y: Floats, section: Codes, donor: Codes, there: NDArray[np.bool_] | None = None) -> None:
        """Fit rules to features `x` (node, 2 f) and targets `y` (node, k), to forty nodes at the least.

        Parameters
        ----------
        section, donor
            What is left out in turn (node,): for the penalty of ridge, and for the weights of rules.
        there
            Which targets were measured (node, k), all if not given; where some were not, it is ridge alone.
        """
        self.number.zero_()
        if len(x) < LEAST_NODES:
            return
        whole = there is None or bool(there.all())
        share = weights_of_rules(x, y, section, donor) if whole else NESTED
        centre, mean, f = x.mean(axis=0), mean_there(y, there), x.shape[1] // 2
        linear, about = np.zeros((x.shape[1], y.shape[1])), x - centre
        for rows, columns in measured_alike(np.ones(y.shape, bool) if there is None else there):
            for n, weight in ((f, share[0]), (2 * f, share[1])):
                if weight and len(rows) > LEAST_ROWS:
                    told = ridge_by_axes(about[rows, :n], y[np.ix_(rows, columns)] - mean[columns], section[rows])
                    linear[:n, columns] += weight * told
        found = {"share": share, "centre": centre, "mean": mean, "linear": linear}
        ground = Ground(about[:, :f], y - mean)
        found |= {"axes": ground.axes, "near": ground.near, "kernel": ground.weight, "target": ground.target}
        found["width"] = np.asarray(ground.width)
        for name, value in found.items():
            held = self.get_buffer(name)
            held.zero_()
            held[tuple(slice(n) for n in value.shape)] = torch.from_numpy(np.asarray(value)).to(held)
        self.number.fill_(min(len(x), MOST_NEAR))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return what is told of nodes with features `x` (node, 2 f)."""
        held = {name: value.double().cpu().numpy() for name, value in self.named_buffers()}
        about, n, share = x.double().cpu().numpy() - held["centre"], int(self.number), held["share"]
        told = held["mean"] + about @ held["linear"]
        for rows in np.array_split(np.arange(len(x)), -(-len(x) // MOST_AT_ONCE) or 1) if share[2:4].any() else ():
            at = about[rows, : len(held["axes"])] @ held["axes"]
            kernel, nearest = kernel_and_nearest(at, held["near"][:n], float(held["width"]))
            told[rows] += share[2] * kernel @ held["kernel"][:n] + share[3] * nearest @ held["target"][:n]
        return torch.from_numpy(told).to(x)
