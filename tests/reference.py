"""Dissociated cells of known types, and spots made of such cells, as sections."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy import sparse

from aivc_graph.operators.composition.reference_material import Material
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_cells, add_level, add_observation, new_section

GENES = [f"G{i}" for i in range(60)]
TYPES = ("A", "B", "C", "D")


def rates(seed: int = 0) -> np.ndarray:
    """Return the share of each gene in the RNA of a type (type, gene): some genes in common, some of its own."""
    random = np.random.default_rng(seed)
    found = random.gamma(1.0, 1.0, (len(TYPES), len(GENES))) * 0.3 + random.gamma(1.0, 1.0, len(GENES))
    for i in range(len(TYPES)):
        found[i, 10 * i : 10 * i + 10] *= 6.0
    return found / found.sum(axis=1, keepdims=True)


def cells_of(n: int = 30, seed: int = 1, depth: float = 400.0) -> tuple[np.ndarray, np.ndarray]:
    """Return counts (cell, gene) of `n` cells of each type, each a little apart from its type, and their labels."""
    random = np.random.default_rng(seed)
    labels = np.repeat(TYPES, n)
    apart = np.exp(random.normal(0, 0.3, (len(labels), len(GENES))))
    return random.poisson(depth * np.repeat(rates(), n, axis=0) * apart).astype(np.float32), labels


def spots_of(
    n: int = 120, seed: int = 2, platform: float = 0.8, depth: float = 1500.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return counts of spots (spot, gene) and their true shares (spot, type); genes are caught unevenly."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(len(TYPES), 0.6), n)
    effect = np.exp(np.random.default_rng(9).normal(0, platform, len(GENES)))
    return random.poisson(depth * (shares @ rates()) * effect).astype(np.float32), shares


def reference_section(counts: np.ndarray, labels: np.ndarray, genes: list[str] = GENES) -> Any:
    """Return dissociated cells with their types as a section."""
    section, barcodes = new_section("reference", donor="other"), [f"c{i}" for i in range(len(labels))]
    add_cells(section, barcodes, pd.DataFrame({"label": labels}, index=barcodes))
    add_observation(section, "cell", "rna", _table(counts, barcodes, genes))
    return section


def spot_section(name: str, counts: np.ndarray, genes: list[str] = GENES) -> Any:
    """Return spots in rows of twelve, 100 µm apart, as a section; the last row validates, the one before is tested."""
    section, barcodes = new_section(name, donor=name), [f"p{i}" for i in range(len(counts))]
    row = np.arange(len(counts)) // 12
    split = np.where(row == row.max(), "validation", np.where(row == row.max() - 1, "test", "train"))
    pos = 100.0 * np.column_stack([np.arange(len(counts)) % 12, row])
    add_level(section, "patch", barcodes, pos, 27.5, scale_affine(1.0), pd.DataFrame({"split": split}))
    add_observation(section, "patch", "rna", _table(counts, barcodes, genes))
    return section


def _table(counts: np.ndarray, barcodes: list[str], genes: list[str]) -> Any:
    table = ad.AnnData(sparse.csr_matrix(counts))
    table.obs_names, table.var_names = barcodes, genes
    return table


def material(
    counts: np.ndarray, cells: np.ndarray, labels: np.ndarray, types: tuple[str, ...] = TYPES, donors: int = 1
) -> Material:
    kind = np.array([types.index(one) for one in labels])
    nobody = sparse.csr_matrix((len(counts), len(counts)), dtype=np.float32)
    facts = kind, np.arange(len(kind)) % donors, np.arange(cells.shape[1])
    return Material(torch.from_numpy(counts), nobody, torch.from_numpy(cells), *facts)
