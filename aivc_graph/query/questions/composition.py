"""What niches, patches, regions or sections are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.query.answers import composition_table
from aivc_graph.query.composition import IDENTITY, composition_beneath, predicted_composition, told_of_reference
from aivc_graph.query.places import NICHE, check_groups
from aivc_graph.query.questions.question import QUESTIONS, AbstractNicheQuestion, Level
from aivc_graph.tissue.doubt import doubt

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue


@QUESTIONS.register("composition", asks="what each niche, patch or region is made of", example="--level cell")
class CompositionQuestion(AbstractNicheQuestion):
    """What each niche (or section) is made of: the share of each cell type, or of each label of its nodes.

    Where nodes carry no label, the shares are those of the niches in each section. Of patches whose cells carry
    types, one row a patch unless `by` says otherwise: shares predicted from its counts alone, so that patches
    without measured cells are answered too, and ``measured_<type>``, those of the cells beneath. Where the types
    are those of dissociated cells, a reference, ``lower_<type>`` and ``upper_<type>`` are the ends of their 90 %
    intervals, and ``unexplained`` is the share of its molecules that no type accounts for: high where the tissue
    holds a type that the reference lacks. Where cells were counted at twenty patches or more, beneath them or in a
    column that `cells` names, ``cells`` is how many each patch holds, with ``lower_cells`` and ``upper_cells``. Of
    regions one row a region: the labels of the nodes beneath. A level that bears no labels, above nodes that bear
    none either, is refused.
    """

    level: Level | None = Field(None, description="one row per node of this level")
    by: str | None = Field(None, description="one row per value of this column, such as section")
    cells: str | None = Field(None, description="column of patches with the cells counted at some; told of all")

    def answer(self, tissue: VirtualTissue) -> pd.DataFrame:
        """Return a row a place and a column a type."""
        level, model, graph = tissue.level(self.level), tissue.model, tissue.graph
        obs = tissue.niches(self.k, self.resolution, level).obs
        if self.by is not None and self.by not in obs:
            raise unknown_name(QueryError, "composition", f"column of {level} nodes", self.by, obs.columns)
        if self.by is not None:
            check_groups("composition", self.by, obs[self.by])
        children = [child for child, parent in model.plan.compositions if parent == level]
        if self.cells is not None and not any(told_of_reference(model, child, level) for child in children):
            found = f"cells = {self.cells!r} where no reference of dissociated cells tells what {level} nodes hold"
            raise QueryError("composition", found, "a run with a reference, asked at its spots", "leave it out")
        if children:
            return predicted_composition(model, graph, children[0], level, obs, self.by, self.cells)
        if level != tissue.base_level and names.LABEL not in obs:
            weight = tissue.places(level)[1]
            return composition_beneath(graph.obs(tissue.base_level), weight, obs, self.by, level)
        return composition_table(self._in_place(tissue, obs, level), self.by or NICHE)

    def _in_place(self, tissue: VirtualTissue, obs: pd.DataFrame, level: str) -> pd.DataFrame:
        """Return the nodes that may lie in a niche: of tissue, those with positions; doubt that none bears a label."""
        if tissue.placed and self.by in (None, NICHE):
            obs = obs[obs["x_um"].notna()]
        every = {one: tissue.graph.obs(one) for one in tissue.graph.levels}
        labelled = [one for one, of in every.items() if names.LABEL in of and of[names.LABEL].notna().any()]
        if labelled and (names.LABEL not in obs or obs[names.LABEL].isna().all()):
            found = f"{level} nodes in place without a label, and labels of {', '.join(labelled)} nodes that tell none"
            doubt("composition", found, "types", "ask `types`, and see what training said of a reference")
        return obs

    def draw(self, tissue: VirtualTissue, answer: pd.DataFrame) -> Any:
        """Draw maps of the commonest types of the first section, with how wide their intervals are; else bars."""
        if "x_um" not in answer or answer["x_um"].isna().all():
            return _bars(answer)
        from aivc_graph.plot.composition_maps import composition_maps

        placed = answer[answer["x_um"].notna()]
        here = placed[placed["section"] == placed["section"].iloc[0]]
        types = _types(here)
        width = None
        if f"upper_{types[0]}" in here:
            width = pd.DataFrame({name: here[f"upper_{name}"] - here[f"lower_{name}"] for name in types})
        level = tissue.level(self.level)
        size = tissue.graph[level].size_um.numpy()[np.asarray(here.index)]
        return composition_maps(here[["x_um", "y_um"]].to_numpy(), here[types], width, size_um=size)


def _types(answer: pd.DataFrame) -> list[str]:
    """Return the columns of an answer that are shares predicted, or counted."""
    other = {*IDENTITY, "supported", "n_nodes", "n_labelled", "unexplained", "cells"}
    return [
        str(one) for one in answer if one not in other and not str(one).startswith(("lower_", "upper_", "measured_"))
    ]


def _bars(answer: pd.DataFrame) -> Any:
    from aivc_graph.plot.composition_bars import composition_bars

    table = answer.set_index(answer.columns[0])
    return composition_bars(table[[one for one in _types(answer) if one != answer.columns[0]]].fillna(0.0))
