"""Which niches and cell types are more abundant in some donors than in others."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.query.abundance import NICHE, TYPE, contrasts, shares_by_donor
from aivc_graph.query.questions.question import QUESTIONS, AbstractNicheQuestion, Symbols

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue

log = logging.getLogger(__name__)


@QUESTIONS.register(
    "abundance",
    asks="share of niches and cell types by donor trait, with the donor as the unit",
    example="--by TRAIT --plot abundance.png --out abundance.csv",
)
class AbundanceQuestion(AbstractNicheQuestion):
    """The share of each niche and cell type by a trait of the donors; see `aivc_graph.query.abundance.contrasts`.

    A donor's share pools all nodes of its sections, or those of the types `among` alone: of niches at the finest
    measured level, of cell types at the finest level that carries labels. The trait is one of the sections'
    (``traits:``, ``traits_by:``, site, batch, …), or a column of the nodes. Sections without a donor count as donors of
    their own.

    The answer is a table, a row a niche or cell type and contrast: ``share`` and ``share_against`` (mean over donors),
    ``difference`` with its 95 % interval ``lower``–``upper``, ``p``, ``p_adjusted`` and a ``note``.
    """

    by: str = Field(description="trait of the donors, such as stage", json_schema_extra={"metavar": "TRAIT"})
    among: Symbols | None = Field(None, description="cell types, separated by commas, that shares are taken among")

    def answer(self, tissue: VirtualTissue) -> pd.DataFrame:
        """Return the contrasts; what limits them is logged."""
        table = contrasts(self.shares(tissue), self.by)
        for note in sorted(set(table["note"]) - {""}):
            log.warning("abundance by %s: %s", self.by, note)
        sections = tissue.graph.obs(names.SECTION)
        if "donor" not in sections or sections["donor"].isna().any():
            log.warning("abundance by %s: sections without a donor count as donors of their own", self.by)
        return table

    def shares(self, tissue: VirtualTissue) -> pd.DataFrame:
        """Return the share of each niche and cell type in each donor."""
        niche = tissue.niches(self.k, self.resolution).obs[NICHE]
        members, graph = {NICHE: (tissue.base_level, niche)}, tissue.graph
        labelled = [level for level in graph.levels if names.LABEL in graph.obs(level)]
        if labelled:
            members[TYPE] = (labelled[0], graph.obs(labelled[0])[names.LABEL].astype("category"))
        if self.among is not None:
            members = self._among(members)
        return shares_by_donor(graph, self.by, members)

    def _among(self, members: dict[str, tuple[str, pd.Series]]) -> dict[str, tuple[str, pd.Series]]:
        """Return what is counted, of nodes of the types `among` alone."""
        level, kind = members.get(TYPE, ("", pd.Series(dtype="category")))
        for one in self.among or ():
            if one not in kind.cat.categories:
                raise unknown_name(QueryError, "abundance --among", "cell type", one, kind.cat.categories)
        these = kind.isin(self.among or ())
        return {what: (at, of.where(these)) for what, (at, of) in members.items() if at == level}

    def draw(self, tissue: VirtualTissue, answer: pd.DataFrame) -> Any:
        """Draw the shares of all donors, a panel for niches and one for cell types."""
        from aivc_graph.plot.abundance_dots import abundance_dots

        return abundance_dots(self.shares(tissue), trait=self.by)
