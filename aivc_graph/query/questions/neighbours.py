"""Which niches touch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from aivc_graph import names
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.query.answers import contact_table
from aivc_graph.query.places import NICHE
from aivc_graph.query.questions.question import QUESTIONS, AbstractNicheQuestion

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue


@QUESTIONS.register("neighbours", asks="which niches touch, against chance", example="--out contacts.csv")
class NeighboursQuestion(AbstractNicheQuestion):
    """Which niches touch: a row a pair, with contacts, those expected by chance, and their log2 ratio."""

    def answer(self, tissue: VirtualTissue) -> pd.DataFrame:
        """Return a row a pair of niches."""
        niches = tissue.niches(self.k, self.resolution)
        relation = (tissue.base_level, names.NEAR, tissue.base_level)
        near = to_scipy_csr(tissue.graph[relation].adj_t) if relation in tissue.graph.edge_types else None
        return contact_table(near, niches.obs[NICHE].cat.codes.to_numpy(), niches.n_vars)
