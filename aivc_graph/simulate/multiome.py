"""Surface protein and open chromatin of the same cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph.simulate.counts import Counts, gene_sizes, overdispersion, poisson_quantile
from aivc_graph.simulate.donors import stream
from aivc_graph.simulate.section import SimulatedSection

Array = NDArray[np.float64]

SURFACE: Final = (
    "EPCAM", "ERBB2", "MUC1", "CDH1", "EGFR", "PDPN", "PDGFRA", "PDGFRB", "MCAM", "PECAM1", "CDH5", "ENG", "KDR",
    "PTPRC", "CD3E", "CD4", "CD8A", "IL7R", "CCR7", "CTLA4", "IL2RA", "CXCR4", "MS4A1", "CD19", "CD79B", "CXCR5",
    "SDC1", "TNFRSF17", "CD14", "CD163", "MRC1", "ITGAX", "CSF1R", "CD274", "ICAM1",
)  # fmt: skip
PROTEIN, CHROMATIN = 2, 3
PROTEIN_SIZE, PROTEIN_SPREAD = 8.0, 0.2
FOREGROUND, AMBIENT, STICKY = 120.0, 4.0, 0.35
DAMPED: Final = 0.9
REGIONS_BP: Final = (0, -12_000, 35_000)
REGION_BP, GENE_BP = 500, 200_000
REST, OPENING = (1.2, -1.6, -1.8), (0.35, 1.1, 0.9)
FRAGMENTS: Final = 1.0
GENOME: Final = "chrSim"


@dataclass(frozen=True)
class Assayed:
    """One modality of the cells.

    Parameters
    ----------
    counts
        ``(cell, feature)``.
    expected
        What the counts were drawn around, ``(cell, feature)``.
    features
        One row a feature: the gene it belongs to, and what else is known of it.
    """

    counts: Counts
    expected: Array
    features: pd.DataFrame


def count_proteins(section: SimulatedSection) -> Assayed:
    r"""Return antibody counts of the panel's surface proteins: a foreground of what the cell makes over a background.

    .. math:: \mu_{cp} = s_c\,(f_p\, x_{cp}^{0.9} + a_p\, e_c)

    with x the cell's share of that gene's transcripts relative to the cells that make most, f a protein's own antibody,
    a its ambient level, e how sticky the cell is and s its capture. Counts are negative binomial.
    """
    rng = stream(section.seed, "protein")
    proteins = [gene for gene in SURFACE if gene in section.genes]
    made = section.cell_rate[:, [section.genes.index(gene) for gene in proteins]]
    made = made / section.cell_rate.sum(axis=1, keepdims=True)
    level = np.minimum(made / np.maximum(np.quantile(made, 0.99, axis=0), 1e-12), 1.0) ** DAMPED
    antibody = np.random.default_rng([PROTEIN, len(proteins)])
    foreground = FOREGROUND * antibody.lognormal(0.0, 0.6, len(proteins))
    ambient = AMBIENT * antibody.lognormal(0.0, 0.5, len(proteins))
    sticky, capture = (rng.lognormal(0.0, spread, (len(made), 1)) for spread in (STICKY, 0.3))
    expected = capture * (foreground * level + ambient * sticky)
    noise = overdispersion(
        expected.shape, gene_sizes(np.ones(len(proteins)), PROTEIN_SIZE, PROTEIN_SPREAD, PROTEIN), rng
    )
    counts = poisson_quantile(rng.random(expected.shape), expected * noise)
    features = pd.DataFrame({"gene": proteins, "ambient": ambient}, index=pd.Index(proteins))
    return Assayed(counts, expected, features)


def count_regions(section: SimulatedSection) -> Assayed:
    r"""Return fragments in regions near each gene: its promoter, mostly open, and two enhancers that open with it.

    A region is open with probability :math:`\sigma(\alpha_r + \beta_r z_{cg})`, z the gene's log share of the cell's
    transcripts, standardised over cells; an open region has Poisson fragments with the cell's depth and the region's
    own factor. The genome is made up: genes in panel order, 200 kb apart.
    """
    rng = stream(section.seed, "chromatin")
    share = np.log(section.cell_rate / section.cell_rate.sum(axis=1, keepdims=True))
    z = (share - share.mean(axis=0)) / np.maximum(share.std(axis=0), 1e-9)
    gene = np.repeat(np.arange(len(section.genes)), len(REGIONS_BP))
    kind = np.tile(np.arange(len(REGIONS_BP)), len(section.genes))
    openness = 1 / (1 + np.exp(-(np.array(REST)[kind] + np.array(OPENING)[kind] * z[:, gene])))
    factor = np.random.default_rng([CHROMATIN, len(gene)]).lognormal(0.0, 0.5, len(gene))
    amount = FRAGMENTS * factor * rng.lognormal(0.0, 0.4, (len(z), 1))
    is_open = rng.random(openness.shape) < openness
    counts = poisson_quantile(rng.random(openness.shape), amount * is_open)
    start = (gene + 1) * GENE_BP + np.array(REGIONS_BP)[kind]
    names = [f"{GENOME}:{a}-{a + REGION_BP}" for a in start]
    known = {"gene": np.array(section.genes)[gene], "distance_bp": np.array(REGIONS_BP)[kind]}
    return Assayed(counts, amount * openness, pd.DataFrame(known, index=pd.Index(names)))
