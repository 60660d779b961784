"""What a graph knows of genes beforehand, as arrays: typed relations, vectors, and the controls of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr

Floats = NDArray[np.floating]

# Attributes of gene nodes: vectors (gene, d), not a number where a gene has none; names of their columns; and of every
# file what it was and how much of it is of this tissue.
VECTORS, VECTOR_NAMES, PRIORS = "known", "known_names", "priors"
# What a prior is compared with: edges dealt anew with every degree kept and vectors given to other genes that have one;
# genes given the places of others; nothing known.
TRUE, REWIRED, SHUFFLED, NONE = "true", "rewired", "shuffled", "none"
CONTROLS: Final = (REWIRED, SHUFFLED, NONE)
# Of what is two edges away, against what is one away.
FARTHER = 0.5
ROUNDS = 20


@dataclass(frozen=True)
class Known:
    """What is known of genes.

    Parameters
    ----------
    genes
        Their names.
    relations
        By name the signed weight of each edge, CSR (target, source); an edge whose sign is not known counts as
        positive.
    vectors
        Columns that describe genes (gene, d), not a number where a gene has none; d may be 0.
    """

    genes: pd.Index
    relations: dict[str, sparse.csr_matrix]
    vectors: Floats

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of what is known: relations that have edges, and vectors if any."""
        found = tuple(name for name, edges in self.relations.items() if edges.nnz)
        return (*found, names.DESCRIBES) if np.isfinite(self.vectors).any() else found

    def has(self, genes: Sequence[str]) -> NDArray[np.bool_]:
        """Say of which genes anything is known: an edge or a vector (gene,)."""
        linked = np.asarray(np.isfinite(self.vectors).any(axis=1))
        for edges in self.relations.values():
            linked = linked | (np.diff(edges.indptr) > 0) | (np.diff(edges.tocsc().indptr) > 0)
        place = self.genes.get_indexer(pd.Index(genes))
        return np.asarray((place >= 0) & linked[np.maximum(place, 0)])

    def steps(self, name: str) -> sparse.csr_matrix:
        r"""Return one step along a relation, either way: :math:`D^{-1/2}(A + A^\top)D^{-1/2}` (gene, gene), D of |A|.

        References
        ----------
        Kipf & Welling 2017, doi:10.48550/arXiv.1609.02907 (symmetric normalisation).
        """
        both = self.relations[name] + self.relations[name].T
        root = 1 / np.sqrt(np.maximum(np.asarray(abs(both).sum(axis=1)).ravel(), 1e-12))
        scale = sparse.diags(np.where(np.isfinite(root), root, 0.0))
        return sparse.csr_matrix(scale @ both @ scale)

    def likeness(self, genes: Sequence[str]) -> dict[str, Floats]:
        r"""Return how alike genes are by each source (gene, gene), 1 on the diagonal of those of which it knows.

        By a relation the cosine of who is one and two steps away, :math:`e_g(S + S^2/2)`, so that genes with the same
        neighbours are alike, and opposite signs count against it; by vectors the cosine of standardised columns.
        """
        place = self.genes.get_indexer(pd.Index(genes))
        there = np.flatnonzero(place >= 0)
        chosen = sparse.csr_matrix((np.ones(len(there)), (there, place[there])), (len(genes), len(self.genes)))
        found = {}
        for name in self.sources:
            if name == names.DESCRIBES:
                rows = chosen @ standardised(self.vectors)
            else:
                steps = self.steps(name)
                near = chosen @ steps
                rows = sparse.csr_matrix(near + FARTHER * near @ steps)
            found[name] = cosines(rows)
        return found

    def control(self, kind: str, seed: int) -> Known:
        """Return what is compared with what is known; see `CONTROLS`."""
        rng, n = np.random.default_rng(seed), len(self.genes)
        if kind == TRUE:
            return self
        if kind == NONE:
            return Known(self.genes, {}, np.zeros((n, 0)))
        if kind == SHUFFLED:
            order = rng.permutation(n)
            moved = {name: edges[order][:, order] for name, edges in self.relations.items()}
            return replace(self, relations=moved, vectors=self.vectors[order])
        relations = {name: rewired_edges(edges, rng) for name, edges in self.relations.items()}
        vectors, has = self.vectors.copy(), np.flatnonzero(np.isfinite(self.vectors).any(axis=1))
        vectors[has] = vectors[rng.permutation(has)]
        return replace(self, relations=relations, vectors=vectors)


def known_of(graph: TissueGraph) -> Known | None:
    """Return what a graph knows of genes; None where no prior was given."""
    if names.GENE not in graph.node_types or PRIORS not in graph[names.GENE]:
        return None
    relations = {}
    for source, name, target in graph.edge_types:
        if source == target == names.GENE:
            relation = graph[source, name, target]
            edges = to_scipy_csr(relation.adj_t).astype(np.float64)
            sign = relation.sign.numpy()
            edges.data = edges.data * np.where(sign == 0, 1.0, sign)
            relations[name] = edges
    index = graph.obs(names.GENE).index
    vectors = graph[names.GENE][VECTORS].numpy() if VECTORS in graph[names.GENE] else np.zeros((len(index), 0))
    return Known(index, relations, vectors.astype(np.float64))


def priors_told(graph: TissueGraph) -> list[str]:
    """Return of every file of priors what it is to this graph, a line each."""
    facts = graph[names.GENE].get(PRIORS, []) if names.GENE in graph.node_types else []
    return [told_of(fact) for fact in facts]


def told_of(fact: dict[str, Any]) -> str:
    """Return what one file is to a tissue, in a line."""
    what = f"{fact['edges']:,} edges" if "edges" in fact else f"vectors of {fact['vectors']:,} genes"
    said = f"{fact['file']} ({fact['layout']}, {fact.get('species', 'species not told')}): {fact['relation']}"
    return (
        f"{said}, {what}; {fact['matched']:,} of {fact['of']:,} molecules of this tissue; sha256 {fact['sha256'][:16]}"
    )


def know_as(found: TissueGraph, like: TissueGraph) -> None:
    """Give a graph with the molecules of `like` what is known of them there, and nothing else."""
    for relation in [one for one in found.edge_types if _between_molecules(one)]:
        del found[relation]
    for relation in like.edge_types:
        if _between_molecules(relation):
            found[relation].update(like[relation])
    for key in (VECTORS, VECTOR_NAMES, PRIORS):
        if names.GENE in found.node_types:
            found[names.GENE].pop(key, None)
        if names.GENE in like.node_types and key in like[names.GENE]:
            found[names.GENE][key] = like[names.GENE][key]


def standardised(vectors: Floats) -> Floats:
    """Return columns of mean zero and unit spread over the genes that have them; zero for those that have none."""
    if not np.isfinite(vectors).any():
        return np.zeros((len(vectors), 0))
    mean, spread = np.nanmean(vectors, axis=0), np.nanstd(vectors, axis=0)
    return np.asarray(np.nan_to_num((vectors - mean) / np.where(spread > 0, spread, 1.0)))


def cosines(rows: sparse.csr_matrix | Floats) -> Floats:
    """Return the cosine of every pair of rows (row, row); zero for a row of nothing."""
    square: Any = rows @ rows.T
    products = np.asarray(square.todense() if sparse.issparse(square) else square, np.float64)
    size = np.sqrt(np.maximum(np.diag(products), 0.0))
    scale = np.divide(1.0, size, out=np.zeros_like(size), where=size > 1e-12)
    return products * scale[:, None] * scale


def rewired_edges(edges: sparse.csr_matrix, rng: np.random.Generator) -> sparse.csr_matrix:
    """Return edges whose ends are dealt anew: as many in and out of every gene.

    An edge to itself, or there twice, is dealt again; the few that are left after `ROUNDS` are dropped.

    References
    ----------
    Molloy & Reed 1995, doi:10.1002/rsa.3240060204 (configuration model).
    """
    coo = edges.tocoo()
    row, column = coo.row.astype(np.int64), coo.col.astype(np.int64)
    column = rng.permutation(column)
    for _ in range(ROUNDS):
        again = _faulty(row, column)
        if not again.any():
            break
        some = again | (rng.random(len(row)) < again.mean())
        column[some] = rng.permutation(column[some])
    kept = ~_faulty(row, column)
    return sparse.csr_matrix((coo.data[kept], (row[kept], column[kept])), edges.shape)


def _faulty(row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which edges lead to where they come from, or are there before (edge,)."""
    order = np.lexsort((column, row))
    twice = np.zeros(len(row), bool)
    twice[order[1:]] = (np.diff(row[order]) == 0) & (np.diff(column[order]) == 0)
    return np.asarray(twice | (row == column))


def _between_molecules(relation: tuple[str, str, str]) -> bool:
    return relation[0] in names.MOLECULES and relation[2] in names.MOLECULES
