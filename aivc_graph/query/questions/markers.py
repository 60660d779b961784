"""The genes that mark each niche, label or other group of nodes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.graph.panels import measured_molecules, onehot_labels, panel_columns
from aivc_graph.graph.terms import depth_of, measured_terms
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.query.answers import asked_modality, counted_nodes, measured_genes
from aivc_graph.query.markers import LEAST_NODES, LEAST_UNITS, Units, intensity_marker_table, marker_table
from aivc_graph.query.places import NICHE, check_groups
from aivc_graph.query.questions.question import QUESTIONS, AbstractNicheQuestion, Level, Symbols

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue

log = logging.getLogger(__name__)
BY = "niche, label or another column of the nodes that tells groups"


@QUESTIONS.register(
    "markers", asks="the genes that mark each niche or cell type", example="--by label --n 10 --plot markers.png"
)
class MarkersQuestion(AbstractNicheQuestion):
    """The genes that mark each niche, label or other group of nodes, by what was counted in them.

    One row a group and gene, first those that most surely stand out: ``log2_ratio`` over the mean of the other groups,
    one count per 10,000 added to both so that rarely seen genes do not lead; its 95 % interval, ``p`` and
    ``p_adjusted`` (`marker_table`). What is compared is a unit, never a node: donors where there are three or more,
    else sections, else regions, which tell of their own tissue alone. Where groups are niches, p says how steadily
    units show a gene in a niche, not that there is such a niche: niches were found from the same counts. Empty where
    there is one group alone. Of intensities the mean arcsinh is compared, in units of log 2, the cofactor in the place
    of the one count added. Of tissue of types alone types are compared, a cell being one count of its own.
    """

    by: str = Field(NICHE, description=BY)
    level: Level | None = Field(None, description="level whose counts are used; the finest measured one if not given")
    n: int = Field(5, ge=0, description="number of genes per group; 0 for all")
    genes: Symbols | None = Field(None, description="symbols, separated by commas, instead of the top ones")

    @model_validator(mode="after")
    def _niches_where_asked(self) -> Self:
        self._check_niches_asked(self.by == NICHE, f"a row a {self.by}")
        return self

    def answer(self, tissue: VirtualTissue) -> pd.DataFrame:
        """Return a row a group and gene."""
        level, graph = tissue.level(self.level), tissue.graph
        modality = asked_modality(tissue.model, level, names.TYPE if self._of_types(tissue, level) else None)
        asked = measured_genes(tissue.model, level, self.genes, modality)
        group = self._groups(tissue, level)
        counted = counted_nodes(tissue.model, graph, level) & (group.codes >= 0)
        units, groups = _units(tissue, level, counted), [str(one) for one in group.categories]
        if modality in (*names.MOLECULE_OF, names.TYPE):
            counts, genes = _counts(tissue, level, counted, modality)
            table = marker_table(counts, genes, group.codes[counted], groups, units)
        else:
            genes = list(tissue.model.plan.panels[level][modality])
            terms, scale = measured_terms(graph, level, modality, counted), depth_of(graph, level, modality)
            table = intensity_marker_table(terms, scale, genes, group.codes[counted], groups, units)
        table = table.rename(columns={"group": self.by})
        if table.empty and len(group.categories) > 1:
            found = f"fewer than two values of {self.by!r} with {LEAST_NODES} counted nodes in one {units.name}"
            raise QueryError("markers", found, f"groups of {LEAST_NODES} nodes or more", "ask by another column")
        if table.empty:
            log.warning("markers: one %s alone, and nothing to set it beside", self.by)
        elif not table["p"].notna().any():
            log.warning("no p: fewer than %d donors, sections or regions hold the groups", LEAST_UNITS)
        if self.genes is not None:
            return table[table["gene"].isin(asked)].reset_index(drop=True)
        surely = table["lower"].where(table["lower"].notna(), table["log2_ratio"])
        order = table.assign(surely=surely).sort_values("surely", ascending=False, kind="stable")
        chosen = order.groupby(self.by, observed=True, sort=False).head(self.n or len(genes)).index
        place = table.loc[chosen, self.by].map({str(one): i for i, one in enumerate(group.categories)})
        return table.loc[place.sort_values(kind="stable").index].reset_index(drop=True)

    @staticmethod
    def _of_types(tissue: VirtualTissue, level: str) -> bool:
        """Say whether nothing but types was measured of a level: they then are what marks a group."""
        return tissue.model.plan.made_of(level) == names.TYPE

    def _groups(self, tissue: VirtualTissue, level: str) -> pd.Categorical:
        if self.by == NICHE:
            return tissue.niches(self.k, self.resolution, level).obs[NICHE].array
        obs = tissue.graph.obs(level)
        if self.by not in obs:
            raise unknown_name(QueryError, "markers", f"column of {level} nodes", self.by, (NICHE, *obs.columns))
        check_groups("markers", self.by, obs[self.by])
        return pd.Categorical(obs[self.by])

    def draw(self, tissue: VirtualTissue, answer: pd.DataFrame) -> Any:
        """Draw the genes of the answer in every group."""
        from aivc_graph.plot.marker_map import marker_map

        if answer.empty:
            raise QueryError("--plot", "no marker", "two groups of nodes at least", "ask for more niches with --k")
        shown = dict.fromkeys(answer["gene"])
        table = self.model_copy(update={"genes": tuple(shown)}).answer(tissue)
        ratio, adjusted = (table.pivot(index=self.by, columns="gene", values=of) for of in ("log2_ratio", "p_adjusted"))
        order = list(dict.fromkeys(table[self.by])), list(shown)
        return marker_map(ratio.loc[order], adjusted.loc[order], label=self.by)


def _counts(
    tissue: VirtualTissue, level: str, counted: NDArray[np.bool_], modality: str
) -> tuple[sparse.csr_matrix, list[str]]:
    """Return the counts (node, gene) of the genes that every section with counted nodes measured, and those genes."""
    graph = tissue.graph
    if modality == names.TYPE:
        types = tissue.model.plan.types[level]
        return sparse.csr_matrix(onehot_labels(graph, level, types)[counted]), list(types)
    columns, molecules = panel_columns(graph, level, modality).numpy(), graph.obs(names.MOLECULE_OF[modality]).index
    sections = np.unique(graph[level].section_index.numpy()[counted])
    columns = columns[measured_molecules(graph, level, modality).numpy()[sections][:, columns].all(axis=0)]
    return to_scipy_csr(graph.counts(level, modality))[counted][:, columns], list(molecules[columns])


def _units(tissue: VirtualTissue, level: str, counted: NDArray[np.bool_]) -> Units:
    """Return donors where there are enough of them, else sections, else regions."""
    store = tissue.graph[level]
    section, obs = store.section_index.numpy()[counted], tissue.graph.obs(names.SECTION)
    donor = pd.factorize(obs["donor"])[0][section] if "donor" in obs else np.full(len(section), -1)
    for name, code in (("donor", donor), ("section", section)):
        if len(np.unique(code)) >= LEAST_UNITS and (code >= 0).all():
            return Units(code, name, paired=True)
    if "region_index" in store:
        return Units(store.region_index.numpy()[counted], names.REGION, paired=False)
    return Units(section, "section", paired=True)
