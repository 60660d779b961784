"""The nodes most like a niche or a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from pydantic import Field, model_validator

from aivc_graph.query.questions.question import QUESTIONS, AbstractQuestion

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue


@QUESTIONS.register("similar", asks="the nodes most like a niche or a node", example="--to-niche 3")
class SimilarQuestion(AbstractQuestion):
    """The nodes most like a node or the middle of a niche, nearest first, as `VirtualTissue.similar_to` tells them.

    The node is of the tissue that is asked, or else of the run's own.
    """

    to_niche: int | str | None = Field(None, description="niche to compare with")
    to_node: str | None = Field(
        None, description="barcode of the node to compare with; looked for in --on, then in the run"
    )
    section: str | None = Field(None, description="section of that node")
    k: int | None = Field(None, description="number of niches; chosen from the data if not given")
    n: int = Field(20, description="number of nodes")

    @model_validator(mode="after")
    def _one_of_both(self) -> SimilarQuestion:
        if (self.to_niche is None) == (self.to_node is None):
            found = "neither" if self.to_niche is None else "both"
            raise ValueError(f"expected one of --to-niche and --to-node, found {found}; give the one to compare with")
        if self.section is not None and self.to_node is None:
            raise ValueError("--section without --to-node, whose section it says; leave it out, or name the node")
        if self.k is not None and self.to_niche is None:
            raise ValueError("--k without --to-niche: a node is like others whatever niches there are; leave it out")
        return self

    def answer(self, tissue: VirtualTissue) -> pd.DataFrame:
        """Return a row a node."""
        node = self.to_node if self.section is None or self.to_node is None else f"{self.section}:{self.to_node}"
        known = tissue.graph.obs(tissue.base_level).index
        there = tissue.home if node is not None and node not in known else tissue
        return tissue.similar_to(node=node, niche=self.to_niche, k=self.k, n=self.n, of=there)
