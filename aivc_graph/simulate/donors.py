"""Who the tissue is from and where it was processed: the shifts that make donors and sites differ."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aivc_graph.simulate.programmes import GENES, MIXTURE
from aivc_graph.simulate.section import Site

Array = NDArray[np.float64]

DONOR_SHIFT, SITE_SHIFT = 0.15, 0.25
HEMATOXYLIN_EOSIN: Final = np.array([[0.70, 0.60, 0.37], [0.34, 0.86, 0.43]])
WHITE: Final = np.array([244.0, 242.0, 245.0])


@dataclass(frozen=True)
class Donor:
    """How one donor's tissue differs.

    Parameters
    ----------
    name, site
        Who, and where their tissue was processed.
    gene_shift
        Natural-log shift of each gene, ``(gene,)``.
    mixture
        Share of each type in each niche, ``(niche, type)``.
    abundance
        Factors on the numbers of nests, immune aggregates and vessels.
    responder_share
        Share of cells that interventions can act on; 0 for a donor who does not respond.
    """

    name: str
    site: str
    gene_shift: Array
    mixture: Array
    abundance: tuple[float, float, float]
    responder_share: float


def stream(seed: int, *words: str) -> np.random.Generator:
    """Return a random stream of its own for each seed and words, whatever else is drawn."""
    return np.random.default_rng([seed, *(zlib.crc32(word.encode()) for word in words)])


def draw_donor(name: str, site: str, responder_share: float, seed: int, niche_structure: bool = True) -> Donor:
    """Draw a donor; without `niche_structure` every niche has the same mixture of types."""
    rng = stream(seed, "donor", name)
    mixture = MIXTURE if niche_structure else np.broadcast_to(MIXTURE.mean(axis=0), MIXTURE.shape)
    mixture = mixture * np.exp(rng.normal(0.0, 0.2, MIXTURE.shape[1]))  # a type is rarer or more frequent in a donor
    mixture /= mixture.sum(axis=1, keepdims=True)
    abundance = tuple(float(v) for v in rng.lognormal(0.0, 0.2, 3))
    return Donor(name, site, rng.normal(0.0, DONOR_SHIFT, len(GENES)), mixture, abundance, responder_share)  # type: ignore[arg-type]


def draw_site(name: str, seed: int) -> Site:
    """Draw a site: its shifts of genes and depth, its stain and its light."""
    rng = stream(seed, "site", name)
    shift = rng.normal(0.0, SITE_SHIFT, len(GENES))
    stain = HEMATOXYLIN_EOSIN * rng.lognormal(0.0, 0.08, (2, 3))
    stain *= rng.uniform(0.95, 1.15, (2, 1))
    return Site(name, shift, float(rng.lognormal(-0.25, 0.15)), stain, WHITE + rng.normal(0, 2, 3))
