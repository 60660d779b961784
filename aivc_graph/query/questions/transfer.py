"""Labels of cells of one modality told of cells of another, where no cell was measured by both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import anndata as ad
import numpy as np
import pandas as pd
from pydantic import Field
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import QueryError
from aivc_graph.graph.terms import raw_values
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.correspondence import LEAST_CELLS, Correspondence, correspond
from aivc_graph.operators.links import LEAST_SHARED, Links
from aivc_graph.query.answers import node_table
from aivc_graph.query.questions.question import NODES, QUESTIONS, AbstractQuestion, Level

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue

TOLD, PROBABILITY = "told", "probability"


@QUESTIONS.register(
    "transfer", asks="labels of cells of one modality, told of cells of another", example="--of rna --to atac"
)
class TransferQuestion(AbstractQuestion):
    """Carry a label from nodes measured by one modality to nodes measured by another alone, with its probability.

    The two are laid beside each other by what the graph knows of their molecules: counts of one are summed along the
    relation that leads its molecules to those of the other, such as peaks near genes (`priors:` of the configuration),
    and then both are told by the same molecules; see `aivc_graph.operators.correspondence.correspond`. No node
    asked needs both modalities, and nodes that have both are carried from, not to. The same relation leads one modality
    into the state of the other when a run is trained on nodes of which none has both.

    The answer is an AnnData: X = probability of each label (node, label), its share among the 30 nearest labelled
    nodes; ``obs``: section, barcode, positions, ``told`` and ``probability``; ``uns`` says how far the layout left the
    start, and how well what is left out was told.
    """

    endings: ClassVar[tuple[str, ...]] = NODES
    of: str = Field(names.RNA, description="modality of the nodes that carry labels")
    to: str = Field(names.ATAC, description="modality of the nodes that are asked")
    column: str = Field(names.LABEL, description="annotation that is carried")
    level: Level | None = Field(None, description="one row per node of this level; by default the finest measured")

    def answer(self, tissue: VirtualTissue) -> ad.AnnData:
        """Return the probability of each label for every node asked.

        Raises
        ------
        QueryError
            Without labels, nodes to ask, or molecules that both tell of.
        """
        graph, level = tissue.graph, tissue.level(self.level)
        if self.of == self.to:
            mend = f"of {self.of} alone, `aivc query RUN types` tells who has no label"
            raise QueryError(f"transfer · {level}", f"{self.of!r} twice", "two modalities", mend)
        label = self._labels(graph, level)
        given = self._measured(graph, level, self.of) & label.notna().to_numpy()
        asked = self._measured(graph, level, self.to) & ~self._measured(graph, level, self.of)
        self._check(level, int(given.sum()), int(asked.sum()))
        logs = self._shared(graph, level, {self.of: given, self.to: asked})
        found = correspond(logs[self.of], logs[self.to], _sections(graph, level)[asked], tissue.seed)
        kinds, code = np.unique(label[given].astype(str), return_inverse=True)
        return self._table(graph, level, asked, kinds, found.carry(np.eye(len(kinds))[code]), found)

    def as_table(self, answer: ad.AnnData) -> pd.DataFrame:
        """Return what is told of each node, and the probability of each label."""
        return pd.concat([answer.obs, answer.to_df()], axis=1)

    def _table(
        self, graph: TissueGraph, level: str, asked: Any, kinds: Any, share: Any, found: Correspondence
    ) -> ad.AnnData:
        obs = node_table(graph, level)[asked]
        obs[TOLD] = pd.Categorical.from_codes(share.argmax(axis=1), categories=pd.Index(kinds))
        obs[PROBABILITY] = share.max(axis=1)
        answer = ad.AnnData(
            X=share.astype(np.float32), obs=obs, var=pd.DataFrame(index=pd.Index(kinds, name=self.column))
        )
        weighing, rounds = found.way
        agreement = {"start": next(iter(found.agreement.values())), "chosen": found.agreement[found.way]}
        answer.uns["transfer"] = {"weighing": weighing, "rounds": rounds, "left_out_correlation": agreement}
        return answer

    def _labels(self, graph: TissueGraph, level: str) -> pd.Series:
        obs = graph.obs(level)
        if self.column not in obs:
            there = ", ".join(map(str, obs.columns))
            raise QueryError(
                f"transfer · {level}", f"no column {self.column!r}", f"one of {there}", "name it by --column"
            )
        label = obs[self.column].astype(object)
        return label.where(label.notna() & (label != ""))

    def _measured(self, graph: TissueGraph, level: str, modality: str) -> Any:
        if modality not in graph.modalities(level) or modality not in names.MOLECULE_OF:
            there = [one for one in graph.modalities(level) if one in names.MOLECULE_OF]
            found = f"no counts of {modality!r} (counted: {', '.join(there) or 'nothing'})"
            mend = "name them by --of and --to" if len(there) > 1 else "labels go from one kind of counts to another"
            raise QueryError(f"transfer · {level}", found, "counts of two modalities", mend)
        return graph[level][names.mask_name(modality)].numpy()

    def _check(self, level: str, given: int, asked: int) -> None:
        where, least = f"transfer · {level}", f"at least {LEAST_CELLS}"
        if given < LEAST_CELLS:
            raise QueryError(where, f"{given} nodes with {self.of} and a {self.column}", least, "label more of them")
        if asked < LEAST_CELLS:
            found = f"{asked} nodes with {self.to} and without {self.of}"
            raise QueryError(where, found, least, "of nodes with both, the label is their own")

    def _shared(self, graph: TissueGraph, level: str, rows: dict[str, Any]) -> dict[str, sparse.csr_matrix]:
        """Return log counts of the `rows` of each modality (node, molecule) in molecules of one of them."""
        links = Links.of(graph, level, self.of, self.to)
        if links is None:
            ends = " and ".join(f"{names.MOLECULE_OF[one]}s" for one in (self.of, self.to))
            mend = "give one under `priors:` of the configuration"
            raise QueryError(f"transfer · {level}", f"no relation between {ends} in the graph", "one", mend)
        if links.number < LEAST_SHARED:
            led, leads = (names.MOLECULE_OF[one] for one in (links.told_in, links.other))
            found = f"{links.number} {led}s with a {leads} that leads to them"
            raise QueryError(f"transfer · {level}", found, f"at least {LEAST_SHARED}", "give more relations")
        return links.logs({one: raw_values(graph, level, one)[who] for one, who in rows.items()})


def _sections(graph: TissueGraph, level: str) -> Any:
    return graph[level].section_index.numpy()
