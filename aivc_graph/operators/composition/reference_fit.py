"""Fit of a reference to patches: what opens, and for how many rounds, by hidden molecules; neighbours; intervals."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph.graph.tissue_graph import to_torch_csr
from aivc_graph.graph.windows import windows
from aivc_graph.operators.composition.mixture import NEVER, Hill, Prior, Seen, adapt, amounts, least_squares, posterior
from aivc_graph.operators.composition.reference_material import STRETCHES, Material, gather, profiles, surety
from aivc_graph.operators.composition.reference_width import REDRAWN, contents, redrawn, scatter
from aivc_graph.operators.part import Fitting
from aivc_graph.operators.product import SparseOperator
from aivc_graph.tissue.doubt import doubt

if TYPE_CHECKING:
    from aivc_graph.operators.composition.reference import ReferenceComposition

log = logging.getLogger(__name__)
WINDOW_NODES = 400_000
MOST_JUDGED = 600
# Pseudo-count of the factor of a gene on a platform.
PLATFORM = 1.0
# What opens one after the other; the first is non-negative least squares.
OPENINGS = ("least squares", "Poisson noise", "platform effect", "profiles of the tissue")
ROUNDS = (2, 4, 8, 16, 32, 64)
NEIGHBOUR_SHARES = (0.0, 0.1, 0.2, 0.35, 0.5)
PRIOR_ROUNDS = 3


@torch.no_grad()
def fit_reference(part: ReferenceComposition, fitting: Fitting) -> None:
    """Choose genes; fit profiles; open what hidden molecules ask for; calibrate the width of intervals."""
    fit_to(part, gather(windows(fitting.source, fitting.model.steps, WINDOW_NODES), part.plan, len(part.genes)))


@torch.no_grad()
def fit_to(part: ReferenceComposition, found: Material) -> None:
    """Fit to patches and cells that were gathered."""
    n_types = len(part.profiles)
    part.genes.copy_(torch.from_numpy(found.genes))
    part.profiles.copy_(profiles(found.cells, found.kind, n_types))
    part.rates.copy_(part.profiles)
    part.content.copy_(contents(found, n_types))
    part.scatter.copy_(scatter(found, n_types))
    if len(found.patches) < STRETCHES:
        few = f"{len(found.patches)} patches with counts to train on"
        mend = "shares are those of least squares, of a platform as uneven as any; give more tissue, or hold out less"
        doubt("composition by reference", few, f"at least {STRETCHES} to tell what the platform sees", mend)
        # Exponential, the factors of genes are what is known of a platform beforehand.
        hold_redrawn(part, redrawn(found, part.profiles, lambda start, trust, _: Seen(start * trust, part.weight)))
        return
    opening, rounds, drawn = choose_opening(found, part.profiles)
    part.opened.fill_(opening)
    seen = see(found, part.profiles, opening, rounds)
    part.rates.copy_(seen.rates)
    part.weight.copy_(seen.weight)
    prior = fit_prior(found.patches, seen)
    part.present.copy_(prior.present)
    part.share.copy_(prior.share)
    choose_neighbours(part, found)
    some = found.of_cells(np.ones(len(found.kind), bool), spaced(found.patches))
    hold_redrawn(
        part, redrawn(found, part.profiles, lambda start, trust, turn: see(some, start, opening, drawn[turn], trust))
    )
    told = ", ".join(OPENINGS[1 : opening + 1]) or OPENINGS[0]
    facts = len(part.genes), told, rounds, float(part.neighbour_share)
    log.info("composition by reference: %d genes; %s; %d rounds; neighbours %.2g", *facts)


def hold_redrawn(part: ReferenceComposition, every: list[Seen]) -> None:
    """Hold what the platform would be found to see of other genes and profiles."""
    part.redrawn_rates.copy_(torch.stack([one.rates for one in every]))
    part.redrawn_weight.copy_(torch.stack([one.weight for one in every]))


def path(
    found: Material, start: Tensor, opening: int, rounds: tuple[int, ...], trust: Tensor | None = None
) -> list[Seen]:
    """Return what the platform of the patches sees of the profiles `start`, after each number of rounds."""
    types = surety(found, len(start)) if opening == len(OPENINGS) - 1 else None
    return list(adapt(found.patches, start, PLATFORM if opening > 1 else NEVER, types, rounds, trust))


def see(found: Material, start: Tensor, opening: int, rounds: int, trust: Tensor | None = None) -> Seen:
    """Return the last of `path`."""
    return path(found, start, opening, (rounds,), trust)[0]


def spaced(patches: Tensor) -> Tensor:
    """Return at most 600 patches, evenly spaced."""
    return patches[:: -(-len(patches) // MOST_JUDGED)]


class Choice(NamedTuple):
    """How far to depart from least squares, for how many rounds, and for how many each of the fits redrawn goes on."""

    opening: int
    rounds: int
    drawn: list[int]


def choose_opening(found: Material, start: Tensor) -> Choice:
    """Return how far to depart from least squares, and for how many rounds, by molecules hidden from other patches.

    The plainest that is not worse than the best by more than the standard error over stretches of tissue, and of its
    numbers of rounds the fewest: as they go on, profiles drift with the tissue, and types with them. How far that may
    go is part of what is not known: each fit redrawn takes the best by stretches drawn with replacement.
    """
    kept = np.arange(len(found.patches))[:: -(-len(found.patches) // MOST_JUDGED)]
    counts, stretch = found.patches[kept], found.stretch[kept]
    shown, hidden = thinned(counts)
    scores = np.full((len(OPENINGS), len(ROUNDS), STRETCHES), -np.inf)
    for turn in range(2):
        judged = stretch % 2 == turn
        usual, others = counts[~judged].sum(dim=0), found.of_cells(np.ones(len(found.kind), bool), counts[~judged])
        for opening in range(len(OPENINGS)):
            for i, seen in enumerate(path(others, start, opening, ROUNDS if opening > 1 else ROUNDS[1:2])):
                weighted = shown[judged] * seen.weight, seen.rates * seen.weight
                told = amounts(*weighted) if opening else least_squares(shown[judged], seen.rates)
                each = log_likelihood(hidden[judged], told, seen.rates, usual)
                scores[opening, i, turn::2] = np.bincount(stretch[judged], each, minlength=STRETCHES)[turn::2]
    rounds = scores.sum(axis=2).argmax(axis=1)
    opening = plainest(scores[np.arange(len(OPENINGS)), rounds])
    fewest = plainest(scores[opening]) if opening > 1 else rounds[opening]
    return Choice(opening, ROUNDS[fewest], best_again(scores[opening]))


def plainest(scores: NDArray[np.float64]) -> int:
    """Return the first of the choices (choice, stretch) that is not clearly worse than the best."""
    gains = scores[scores.sum(axis=1).argmax()] - scores
    return int(np.flatnonzero(gains.mean(axis=1) <= gains.std(axis=1, ddof=1) / np.sqrt(STRETCHES))[0])


def best_again(scores: NDArray[np.float64]) -> list[int]:
    """Return the best number of rounds by scores (round, stretch) of stretches drawn anew, for each fit redrawn."""
    drawn = np.random.default_rng(1).integers(0, STRETCHES, (REDRAWN, STRETCHES))
    return [ROUNDS[one] for one in scores[:, drawn].sum(axis=2).argmax(axis=0)]


def thinned(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return two halves of the molecules of each patch."""
    shown = torch.from_numpy(np.random.default_rng(0).binomial(counts.numpy().astype(np.int64), 0.5)).float()
    return shown, counts - shown


def log_likelihood(hidden: Tensor, told: Tensor, rates: Tensor, usual: Tensor) -> NDArray[np.float64]:
    """Return the log-probability of hidden molecules, one after the other, with 1 % of the `usual` profile (patch,)."""
    expected = told @ rates
    expected = 0.99 * expected / expected.sum(dim=1, keepdim=True).clamp_min(1e-12) + 0.01 * usual / usual.sum()
    return np.asarray((hidden * expected.clamp_min(1e-12).log()).sum(dim=1).double().numpy())


def fit_prior(patches: Tensor, seen: Seen) -> Prior:
    """Return how often patches have each type, and its mean share where they have, by the means of their posteriors."""
    counts, n_types = spaced(patches) * seen.weight, len(seen.rates)
    hill = Hill.of(counts, seen.rates * seen.weight)
    prior = Prior(torch.full((n_types,), 0.5), torch.full((n_types,), 2.0 / n_types))
    for _ in range(PRIOR_ROUNDS):
        draws = hill.draws(prior)
        there = (draws > 0).sum(dim=(0, 2))
        total = max(1, draws.shape[2] * int((counts.sum(dim=1) > 0).sum()))
        prior = Prior((there + 1.0) / (total + 2.0), draws.sum(dim=(0, 2)) / there.clamp_min(1))
    return prior


def choose_neighbours(part: ReferenceComposition, found: Material) -> None:
    """Mix in as much of the neighbours' shares as hidden molecules ask for."""
    near = SparseOperator.of(to_torch_csr(found.near))
    shown, hidden = thinned(found.patches)
    shares = posterior(shown * part.weight, part.rates * part.weight, part.prior).mean(dim=2)
    if not part.opened:
        shares = least_squares(shown, part.profiles)
    scores = []
    for opening in NEIGHBOUR_SHARES:
        part.neighbour_share.fill_(opening)
        told = part.smoothed(shares, near)
        scores.append(float(log_likelihood(hidden, told, part.rates, found.patches.sum(dim=0)).sum()))
    part.neighbour_share.fill_(NEIGHBOUR_SHARES[int(np.argmax(scores))])
