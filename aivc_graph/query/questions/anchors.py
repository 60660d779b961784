"""Which nodes are known to lie beneath which others, and which pairs of known places a section was placed by."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.graph.anchors import OVERLAP, anchor_table
from aivc_graph.query.questions.question import QUESTIONS, AbstractQuestion

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue


@QUESTIONS.register(
    "anchors",
    asks="which cells lie beneath which spots, how surely, and by which landmarks",
    example="--plot anchors.png",
)
class AnchorsQuestion(AbstractQuestion):
    """Which nodes lie beneath which others, of levels at both of which something was measured: a row an anchor.

    Columns ``section``, ``split``, the levels ``fine`` and ``coarse``, the barcodes of the two nodes, ``membership``,
    how much of the finer one lies there, or how probably, ``sigma_um``, the standard error of its place along each axis
    [µm], ``kind`` and where the two lie, ``fine_x_um``, ``fine_y_um``, ``coarse_x_um``, ``coarse_y_um``.

    Beside those of ``kind`` overlap, the pairs of places by which an element was registered: landmarks, or positions
    that are known of a coarse map. `fine` is the element that was moved, `coarse` the one it was placed on, the
    barcodes are the name of the pair; ``residual_um`` is how far the map puts it from where it is, to be compared with
    ``sigma_um``; ``membership`` is 1 if the map was fitted to it, 0 if `share` of the registration left it out, so that
    its residual is the error of the map; ``doubtful`` is true where it disagrees with the others beyond chance: mark it
    again, or leave it out.
    """

    kind: Literal["overlap", "landmark", "position"] | None = Field(None, description="anchors of this kind alone")
    section: str | None = Field(None, description="of this section alone; the first is drawn if not given")

    def answer(self, tissue: VirtualTissue) -> pd.DataFrame:
        """Return a row an anchor."""
        found = anchor_table(tissue.graph)
        if self.section is not None and self.section not in (known := tissue.graph.obs(names.SECTION).index):
            raise unknown_name(QueryError, "anchors", "section", self.section, known)
        if found.empty:
            levels = ", ".join(tissue.graph.levels)
            mend = "build a graph of sections that hold both, such as cells and spots, or register one by landmarks"
            raise QueryError("anchors", f"none at the levels {levels}", "two levels measured of one tissue", mend)
        asked = {"section": self.section, "kind": self.kind}
        kept = found
        for column, value in asked.items():
            kept = kept if value is None else kept[kept[column] == value]
        if kept.empty:
            number = Counter(zip(found["section"], found["kind"], strict=True))
            there = ", ".join(f"{n:,} of kind {kind} in {name}" for (name, kind), n in number.items())
            raise QueryError("anchors", "none that are asked for", mend=f"there are: {there}")
        return kept.reset_index(drop=True)

    def draw(self, tissue: VirtualTissue, answer: pd.DataFrame) -> Any:
        """Draw how much lies beneath each node of the first section, and how far its pairs are off."""
        from aivc_graph.plot.anchor_map import anchor_map

        section = str(answer["section"].iloc[0])
        here, slide = answer[answer["section"] == section].copy(), tissue.slides.get(section)
        for at, axis in enumerate(("x_um", "y_um")):
            here[[f"fine_{axis}", f"coarse_{axis}"]] -= slide.origin_um[at] if slide is not None else 0.0
        overlap, pairs = here[here["kind"] == OVERLAP], here[here["kind"] != OVERLAP]
        nodes, unit = _beneath(tissue, section, overlap) if len(overlap) else (overlap, "")
        return anchor_map(
            nodes,
            pairs.assign(name=pairs["fine_barcode"], fitted=pairs["membership"] > 0),
            unit=unit,
            slide=slide.image if slide is not None else None,
            mpp=slide.um_per_pixel if slide is not None else None,
            title=f"{section}: anchors",
        )


def _beneath(tissue: VirtualTissue, section: str, overlap: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return how many nodes of the finest level lie beneath each node of the level next to it, and what that counts."""
    fine, coarse = overlap[["fine", "coarse"]].iloc[0]
    levels = overlap[(overlap["fine"] == fine) & (overlap["coarse"] == coarse)]
    nodes = levels.groupby("coarse_barcode", sort=False).agg(
        x_um=("coarse_x_um", "first"), y_um=("coarse_y_um", "first"), beneath=("membership", "sum")
    )
    row = tissue.graph.obs(coarse).index.get_indexer(f"{section}:" + nodes.index.astype(str))
    return nodes.assign(size_um=tissue.graph[coarse].size_um.numpy()[row]), f"{fine} nodes beneath each {coarse}"
