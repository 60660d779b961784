"""What niches, patches, regions or sections are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.query.answers import composition_table
from aivc_graph.query.composition import composition_beneath, predicted_composition
from aivc_graph.query.places import NICHE, check_groups
from aivc_graph.query.questions.question import QUESTIONS, AbstractNicheQuestion, Level

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue


@QUESTIONS.register("composition", asks="what each niche, patch or region is made of", example="--level cell")
class CompositionQuestion(AbstractNicheQuestion):
    """What each niche (or section) is made of: the share of each cell type, or of each label of its nodes.

    Where nodes carry no label, the shares are those of the niches in each section. Of patches whose cells carry types,
    one row a patch unless `by` says otherwise: shares predicted from its counts alone, so that patches without measured
    cells are answered too, and ``measured_<type>``, those of the cells beneath. Of regions one row a region: the labels
    of the nodes beneath. A level that bears no labels, above nodes that bear none either, is refused.
    """

    level: Level | None = Field(None, description="one row per node of this level")
    by: str | None = Field(None, description="one row per value of this column, such as section")

    def answer(self, tissue: VirtualTissue) -> pd.DataFrame:
        """Return a row a place and a column a type."""
        level, model, graph = tissue.level(self.level), tissue.model, tissue.graph
        obs = tissue.niches(self.k, self.resolution, level).obs
        if self.by is not None and self.by not in obs:
            raise unknown_name(QueryError, "composition", f"column of {level} nodes", self.by, obs.columns)
        if self.by is not None:
            check_groups("composition", self.by, obs[self.by])
        children = [child for child, parent in model.plan.compositions if parent == level]
        if children:
            return predicted_composition(model, graph, children[0], level, obs, self.by)
        if level != tissue.base_level and names.LABEL not in obs:
            weight = tissue.places(level)[1]
            return composition_beneath(graph.obs(tissue.base_level), weight, obs, self.by, level)
        return composition_table(obs, self.by or NICHE)
