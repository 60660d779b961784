"""What a cell says of places, learnt: cells and surroundings led to one space, where what belongs together agrees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from aivc_graph.operators.placing import Places, Rows

Floats = NDArray[np.floating[Any]]
# Widths over which what lies around a place is smoothed [sides of a place].
WIDTHS = (0.8, 1.6, 3.2, 6.4)
HIDDEN, SPACE, DROPOUT = 256, 64, 0.4
# Ways to hide nodes; which share of squares, and of the nodes elsewhere, each hides; widths of squares [sides].
EPISODES, SQUARES_HIDDEN, NODES_HIDDEN, SQUARE_SIDES = 16, (0.1, 0.5), (0.1, 0.4), (3.0, 12.0)
STEPS, ASKED, RATE, DECAY = 300, 1_000, 4e-3, 1e-2
# A place of so few nodes says half of what it would; weights of places below this are one.
FEW, LEAST = 0.5, 0.02
# Entries of an array of places by places that is held at a time.
BUDGET = 2**23


class PlaceEncoder(nn.Module):
    r"""Scores of places for cells, :math:`s(c, P) = f(x_c) \cdot g(y_P) / \sqrt{d} + h(y_P)`.

    y are the mean coordinates of the nodes around a place, by Gaussians of four widths, and how many there are. The two
    networks learn from the section itself: nodes are hidden, both scattered and by whole squares, the others make up
    what is around, and the hidden ones choose among all places (cross-entropy), those from gaps and from elsewhere
    alike: `s` holds even odds of the two.

    References
    ----------
    Oord et al. 2018, arXiv:1807.03748 (contrastive prediction); Radford et al. 2021, arXiv:2103.00020 (two encoders).
    """

    middle: Tensor
    scale: Tensor

    def __init__(self, x: Floats) -> None:
        super().__init__()
        axes = x.shape[1]
        scale = 1 / np.sqrt(np.maximum(x.std(axis=0), 1e-9))
        self.register_buffer("middle", torch.tensor(x.mean(axis=0), dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale / max((x * scale).std(), 1e-9), dtype=torch.float32))
        self.of_cell = _network(axes, SPACE)
        self.of_place = _network((axes + 1) * len(WIDTHS), SPACE + 1)

    def forward(self, x: Tensor, around: Tensor) -> Tensor:
        """Return scores (cell, place) of cells (cell, axis) by what is around places (place, feature)."""
        told = self.of_place(around)
        return self.of_cell(x) @ told[:, :-1].T / SPACE**0.5 + told[:, -1]

    def coordinates(self, x: Floats) -> Tensor:
        """Return cells as the networks see them (cell, axis)."""
        return (torch.tensor(x, dtype=torch.float32) - self.middle) * self.scale

    def tell_places(self, x: Floats, places: Places, rows: Rows) -> Tensor:
        """Return what nodes `rows` of coordinates (node, axis) are around each place (place, SPACE + 1), encoded."""
        with torch.inference_mode():
            return self.of_place(around(self.coordinates(x), places, [rows])[0])

    def scores(self, x: Floats, told: Tensor) -> Floats:
        """Return the scores of places that were told (cell, place)."""
        with torch.inference_mode():
            return (self.of_cell(self.coordinates(x)) @ told[:, :-1].T / SPACE**0.5 + told[:, -1]).numpy()


def _network(width: int, told: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, HIDDEN), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, told))


def learn_places(x: Floats, pos_um: Floats, places: Places, rows: Rows, seed: int = 0) -> PlaceEncoder:
    """Return an encoder that learnt from nodes `rows`; others are not looked at.

    Parameters
    ----------
    x, pos_um
        Coordinates (node, axis) and positions [µm] of the nodes.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = PlaceEncoder(x[rows])
        seen, of = encoder.coordinates(x), torch.tensor(places.of)
        hidden = [_hide(pos_um, places, rows, rng) for _ in range(EPISODES)]
        surroundings = around(seen, places, [np.setdiff1d(rows, np.concatenate(one)) for one in hidden])
        optimiser = torch.optim.AdamW(encoder.parameters(), RATE, weight_decay=DECAY)
        pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
        for asked, there in _batches(hidden, surroundings, rng):
            loss = nn.functional.cross_entropy(encoder(seen[asked], there), of[asked])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            pace.step()
    return encoder.eval()


def _batches(hidden: list[tuple[Rows, Rows]], surroundings: Tensor, rng: Any) -> Iterator[tuple[Tensor, Tensor]]:
    for step in range(STEPS):
        kinds = hidden[step % EPISODES]
        some = [rng.choice(kind, min(ASKED // 2, len(kind)), replace=False) for kind in kinds]
        yield torch.tensor(np.concatenate(some)), surroundings[step % EPISODES]


def _hide(pos_um: Floats, places: Places, rows: Rows, rng: Any) -> tuple[Rows, Rows]:
    """Return nodes that are hidden: those that then lie in gaps, and the others."""
    square = squares(pos_um[rows], places.side * rng.uniform(*SQUARE_SIDES), rng.random(2))
    gone = np.isin(square, some_squares(square, rng.uniform(*SQUARES_HIDDEN), rng))
    gone |= rng.random(len(rows)) < rng.uniform(*NODES_HIDDEN)
    in_gap = places.gaps(rows[~gone])[places.of[rows]]
    return rows[gone & in_gap], rows[gone & ~in_gap]


def squares(pos_um: Floats, width_um: float, off: Floats) -> Rows:
    """Return in which square of a lattice each position lies (node,), the lattice moved by `off` squares."""
    at = np.floor(pos_um / width_um + off).astype(np.int64)
    return np.unique(at, axis=0, return_inverse=True)[1].ravel()


def some_squares(square: Rows, share: float, rng: Any) -> Rows:
    """Return a share of the squares, at random, rounded down."""
    number = int(square.max()) + 1
    return np.asarray(rng.permutation(number)[: int(share * number)])


def around(seen: Tensor, places: Places, contexts: list[Rows]) -> Tensor:
    """Return what nodes of each context are around each place (context, place, feature), smoothed over each width.

    Parameters
    ----------
    seen
        Coordinates (node, axis).
    """
    n, columns = len(places.centre), seen.shape[1] + 1
    sums = torch.zeros(len(contexts), n, columns)
    for one, rows in zip(sums, contexts, strict=True):
        one.index_add_(0, torch.tensor(places.of[rows]), torch.cat([seen[rows], torch.ones(len(rows), 1)], dim=1))
    flat, told = sums.movedim(0, 1).reshape(n, -1), torch.empty(len(contexts), n, len(WIDTHS), columns)
    centre = torch.tensor(places.centre / places.side, dtype=torch.float32)
    for here in torch.arange(n).split(max(1, BUDGET // n)):
        away = torch.cdist(centre[here], centre).square()
        for k, width in enumerate(WIDTHS):
            smooth = (-0.5 * away / width**2).exp() @ flat
            told[:, here, k] = smooth.reshape(len(here), len(contexts), columns).movedim(0, 1)
    weight = told[..., -1:]
    mean = told[..., :-1] / (weight + FEW)
    return torch.cat([mean, (weight / weight.mean(dim=1, keepdim=True) + LEAST).log()], dim=-1).flatten(2)
