"""Which nodes are known to lie beneath which others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from aivc_graph.errors import QueryError
from aivc_graph.graph.anchors import anchor_table
from aivc_graph.query.questions.question import QUESTIONS, AbstractQuestion

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue


@QUESTIONS.register("anchors", asks="which cells lie beneath which spots, and how surely", example="--out anchors.csv")
class AnchorsQuestion(AbstractQuestion):
    """Which nodes lie beneath which others, of levels at both of which something was measured: a row an anchor.

    Columns ``section``, ``split``, the levels ``fine`` and ``coarse``, the barcodes of the two nodes, ``membership``,
    how much of the finer one lies there, or how probably, and ``sigma_um``, the standard error of its place [µm].
    """

    def answer(self, tissue: VirtualTissue) -> pd.DataFrame:
        """Return a row an anchor."""
        found = anchor_table(tissue.graph)
        if found.empty:
            levels = ", ".join(tissue.graph.levels)
            mend = "build a graph of sections that hold both, such as cells and spots"
            raise QueryError("anchors", f"none at the levels {levels}", "two levels measured of one tissue", mend)
        return found
