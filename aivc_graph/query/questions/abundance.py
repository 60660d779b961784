"""Which niches and cell types are more abundant in some donors than in others."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import Field

from aivc_graph import names
from aivc_graph.query.abundance import NICHE, TYPE, contrasts, shares_by_donor
from aivc_graph.query.questions.question import QUESTIONS, AbstractNicheQuestion

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

    A donor's share pools all nodes of its sections: of niches at the finest measured level, of cell types at the finest
    level that carries labels. The trait is one of the sections' (``traits:``, ``traits_by:``, site, batch, …), or a
    column of the nodes. Sections without a donor count as donors of their own.

    The answer is a table, a row a niche or cell type and contrast: ``share`` and ``share_against`` (mean over donors),
    ``difference`` with its 95 % interval ``lower``–``upper``, ``p``, ``p_adjusted`` and a ``note``.
    """

    by: str = Field(description="trait of the donors, such as stage", json_schema_extra={"metavar": "TRAIT"})

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
        members = {NICHE: (tissue.base_level, tissue.niches(self.k, self.resolution).obs[NICHE])}
        labelled = [level for level in tissue.graph.levels if names.LABEL in tissue.graph.obs(level)]
        if labelled:
            kind = tissue.graph.obs(labelled[0])[names.LABEL]
            members[TYPE] = (labelled[0], kind.astype("category"))
        return shares_by_donor(tissue.graph, self.by, members)

    def draw(self, tissue: VirtualTissue, answer: pd.DataFrame) -> Any:
        """Draw the shares of all donors, a panel for niches and one for cell types."""
        from aivc_graph.plot.abundance_dots import abundance_dots

        return abundance_dots(self.shares(tissue), trait=self.by)
