"""Expected expression of nodes or niches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from aivc_graph import names
from aivc_graph.query.answers import asked_modality, expression_table, measured_genes
from aivc_graph.query.from_cells import with_cells
from aivc_graph.query.places import NICHE
from aivc_graph.query.questions.question import NODES, QUESTIONS, TABLE, AbstractNicheQuestion, Symbols
from aivc_graph.query.shared_molecules import shared_molecules
from aivc_graph.query.unmeasured import known_genes, with_unmeasured

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue


@QUESTIONS.register("expression", asks="predicted expression", example="--genes ACTA2,CD3E --at niche")
class ExpressionQuestion(AbstractNicheQuestion):
    """Expected expression of a modality, in counts per 10,000 of the measured panel.

    Intensities are told in the file's units. What is expected, and averaged over a niche, is their arcsinh, so that it
    lies in the middle of what may be measured, below the mean that a few bright cells rule.

    Where it was not measured of a node it is told from another modality of the node, if one was.

    At ``cell`` or ``patch`` an AnnData (node, gene) with ``layers["measured"]`` beside the expectation, and
    ``supported`` in ``obs`` as in `NichesQuestion`; of a gene that the section of a node did not measure, but another
    did, ``layers["lower"]`` and ``["upper"]`` bound the expectation, and ``measured`` in ``var`` is False where none
    of the sections did; of a node not counted itself, told by the cells beneath it or the spots above, they bound its
    rate, as far as held-out nodes lie from what is told of them; at ``niche`` a table with the mean, its 95 % interval
    over sections (or over regions, where there are fewer than five sections) and the measured mean. An unknown gene is
    refused with the nearest one, and so is a level at which it was not counted.

    Of a section that measured a part of the panel, what those molecules tell of the others beyond the state is added,
    as far as training supports it (`aivc_graph.operators.panel_residuals`).

    Where cells without positions measured what a section lacks, they tell it beside the model, as far as genes hidden
    from both support it (`aivc_graph.query.from_cells`); ``layers["model"]`` then holds what the model says alone.

    A gene that no training section measured, but of which the run's priors know something, is told from them, in the
    same way.
    """

    endings: ClassVar[tuple[str, ...]] = NODES
    genes: Symbols | None = Field(None, description="symbols, separated by commas; all if not given")
    modality: str | None = Field(
        None, description="whose counts, such as protein, or intensity; if not given RNA, else what was measured"
    )
    at: Literal["cell", "patch", "region", "niche"] | None = Field(
        None, description="one row per node of this level, or per niche; by default per patch, or else per cell"
    )

    @model_validator(mode="after")
    def _niches_where_asked(self) -> Self:
        self._check_niches_asked(self.at == NICHE, "a row a node")
        return self

    def answer(self, tissue: VirtualTissue) -> Any:
        """Return a row a node, or a niche and gene."""
        of_niches = self.at == NICHE
        level = tissue.level(None if of_niches else self.at or self._usual(tissue))
        modality = asked_modality(tissue.model, level, self.modality)
        further = known_genes(tissue, level, self.genes, modality)
        own = self.genes if self.genes is None else [gene for gene in self.genes if gene not in further]
        chosen = measured_genes(tissue.model, level, own, modality)
        niche = tissue.niches(self.k, self.resolution, level).obs[NICHE] if of_niches else None
        shared = shared_molecules(tissue.model, tissue.graph, tissue.home.graph, level, modality)
        table = expression_table(tissue.model, tissue.graph, level, chosen, niche, modality, shared)
        if modality == names.RNA and not of_niches:
            table = with_cells(table, tissue, level)
        return with_unmeasured(table, tissue, level, further, niche) if further else table

    def _usual(self, tissue: VirtualTissue) -> str | None:
        """Return patches where what is asked was measured there, else the finest level where it was.

        Of other tissue that has no nodes there, the finest that it has.
        """
        plan = tissue.model.plan
        there = [at for at in plan.levels if (self.modality or plan.expressed(at)) in plan.panels.get(at, {})]
        there = [at for at in there if tissue.graph[at].num_nodes] or there
        return names.PATCH if names.PATCH in there else next(iter(there), None)

    def written_as(self) -> tuple[str, ...]:
        """Return the endings of a table for niches, else of an AnnData."""
        return TABLE if self.at == NICHE else self.endings
