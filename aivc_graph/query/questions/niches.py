"""The niche of every cell, patch or region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import anndata as ad
import numpy as np
import pandas as pd
from pydantic import Field

from aivc_graph.errors import QueryError
from aivc_graph.plot.palette import nth_colour
from aivc_graph.query.answers import counted_nodes, node_table
from aivc_graph.query.places import NICHE
from aivc_graph.query.questions.question import NODES, QUESTIONS, AbstractNicheQuestion, Level

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue


@QUESTIONS.register(
    "niches", asks="the niche of every cell, patch or region", example="--k 6 --plot niches.png --out niches.h5ad"
)
class NichesQuestion(AbstractNicheQuestion):
    """The niche of every node of a level.

    Niches are those of the run, found once on its training nodes at the finest measured level: they keep their numbers
    and colours on any tissue. A patch's or region's share of each niche is the overlap-weighted mean over its children,
    so the scales nest. Where `k` or `resolution` is given they are found anew on the tissue that is asked.

    The answer is an AnnData: X = share of each niche (node, niche); ``obs``: section, barcode, x_um, y_um, ``niche``
    (1, 2, … by size where they were found), ``certainty`` (largest share) and ``supported`` (false where nothing was
    counted, so that the niche rests on the slide or on neighbours alone); ``obsm["spatial"]`` in µm; ``uns`` says how
    they were found, and the colour of each.
    """

    endings: ClassVar[tuple[str, ...]] = NODES
    level: Level | None = Field(None, description="one row per node of this level; by default the finest measured")

    def answer(self, tissue: VirtualTissue) -> ad.AnnData:
        """Return the share of each niche in every node.

        Raises
        ------
        QueryError
            At a level of which no node lies in tissue, as that of dissociated cells beside spots.
        """
        level, found = tissue.level(self.level), tissue.niche_shares(self.k, self.resolution)
        if level not in found:
            where, mend = f"niches at {level}", f"ask at {' or '.join(found)}; of cells without positions ask types"
            raise QueryError(where, "nodes that lie nowhere in the tissue", "nodes that belong to niches", mend)
        shares = found[level]
        obs = node_table(tissue.graph, level)
        order = [str(i + 1) for i in range(shares.shape[1])]
        known = shares.sum(axis=1) > 0.5
        label = np.where(known, shares.argmax(axis=1), -1)
        obs[NICHE] = pd.Categorical.from_codes(label, categories=pd.Index(order))
        obs = obs.assign(certainty=np.where(known, shares.max(axis=1), np.nan))
        obs["supported"] = known & counted_nodes(tissue.model, tissue.graph, level)
        answer = ad.AnnData(X=shares.astype(np.float32), obs=obs, var=pd.DataFrame(index=pd.Index(order, name=NICHE)))
        answer.obsm["spatial"] = tissue.graph[level].pos.numpy()
        answer.obsm["X_latent"] = tissue.states[level].z
        facts = {"base_level": tissue.base_level, "made_of": tissue.surroundings.made_of, "k": shares.shape[1]}
        of_run = tissue.knows_niches and self.k is None and self.resolution is None
        answer.uns["niches"] = facts | {"units": "µm", "of": "the run" if of_run else "this tissue"}
        answer.uns[f"{NICHE}_colors"] = [nth_colour(i) for i in range(len(order))]
        return answer

    def draw(self, tissue: VirtualTissue, answer: ad.AnnData) -> Any:
        """Draw the niches of the first section."""
        return tissue.plot(k=self.k, resolution=self.resolution, level=self.level)
