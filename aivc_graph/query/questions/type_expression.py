"""Which molecules of a patch a type gives, told by a reference of dissociated cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import anndata as ad
import numpy as np
import pandas as pd
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.graph.panels import measured_molecules
from aivc_graph.operators.composition.reference import ReferenceComposition
from aivc_graph.query.answers import node_table
from aivc_graph.query.composition import given_by_type, told_genes
from aivc_graph.query.questions.question import NODES, QUESTIONS, AbstractQuestion, Symbols

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue

USUAL_GENES = 50


@QUESTIONS.register(
    "type_expression", asks="which molecules of a patch a type gives", example="--type CAFs --genes COL1A1,DCN"
)
class TypeExpressionQuestion(AbstractQuestion):
    """How many molecules of each gene the cells of a type give to each patch.

    The types are those of a reference of dissociated cells, the genes those by which it tells composition. Of a gene
    that was measured the types share what was counted, and add up to it; of one that a section did not measure it is
    what the composition makes expected, at the depth of the others; ``measured`` in ``var`` says if any section did.

    An AnnData (patch, gene): X = molecules; ``layers["lower"]`` and ``["upper"]`` are the ends of the 90 % interval.
    """

    endings: ClassVar[tuple[str, ...]] = NODES
    type: str = Field(description="type of the cells of the reference")
    genes: Symbols | None = Field(None, description="symbols, separated by commas; the 50 that tell most if not given")

    def answer(self, tissue: VirtualTissue) -> ad.AnnData:
        """Return a row a patch and a column a gene.

        Raises
        ------
        QueryError
            Without a reference, or if the type or a gene is none that it tells of.
        """
        parts = [one for one in tissue.model.parts_of("composition") if isinstance(one, ReferenceComposition)]
        if not parts:
            mend = "list a section with `dissociated: true` and two labels or more beside the spots, counted, and train"
            expected = "dissociated, labelled cells of several types, and spots that count their genes, in training"
            raise QueryError("type_expression", "no reference", expected, mend)
        child, parent = parts[0].slot
        types, known = parts[0].plan.types, told_genes(tissue.model, child, parent)
        if self.type not in types:
            raise unknown_name(QueryError, "type_expression", "type", self.type, types)
        genes = list(self.genes or known[:USUAL_GENES])
        for gene in genes:
            if gene not in known:
                raise unknown_name(QueryError, "type_expression", "gene that tells composition", gene, known)
        given = given_by_type(tissue.model, tissue.graph, child, parent, types.index(self.type), genes)
        mean, lower, upper = given
        return ad.AnnData(
            X=mean,
            obs=node_table(tissue.graph, parent),
            var=pd.DataFrame({"measured": _measured(tissue, parent, genes)}, index=genes),
            layers={"lower": lower, "upper": upper},
            obsm={"spatial": np.asarray(tissue.graph[parent].pos.numpy())},
            uns={"units": {"X": f"molecules that {self.type} give", "spatial": "µm"}},
        )


def _measured(tissue: VirtualTissue, level: str, genes: list[str]) -> np.ndarray:
    """Return which genes any section with counts at a level measured (gene,)."""
    graph = tissue.graph
    there = measured_molecules(graph, level, names.RNA).numpy()
    counted = np.unique(graph[level].section_index[graph[level][names.mask_name(names.RNA)]].numpy())
    place = graph.obs(names.MOLECULE_OF[names.RNA]).index.get_indexer(pd.Index(genes))
    return np.asarray(there[counted][:, place].any(axis=0))
