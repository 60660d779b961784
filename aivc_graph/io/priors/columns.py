"""Relations as a plain table with named columns."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pandas as pd

from aivc_graph import names
from aivc_graph.io.priors.layout import LAYOUTS, AbstractLayout, KnownRelation, PriorConfig
from aivc_graph.io.tables import column_names, need_columns, numbers, read_frame

# Usual names of the two ends, of the sign and of the weight.
ENDS = (("source", "target"), ("a", "b"), ("from", "to"), ("gene_a", "gene_b"), ("protein", "gene"))
SIGNS, WEIGHTS = ("sign", "mor", "effect"), ("weight", "w", "score")


@LAYOUTS.register(
    "columns", expects="columns source and target (or a and b, from and to), and sign and weight if known"
)
class ColumnsLayout(AbstractLayout):
    """A row an edge; columns of other names are given as ``source:``, ``target:``, ``sign:`` and ``weight:``."""

    relation: ClassVar[KnownRelation] = names.INTERACTS

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell it by a usual pair of columns."""
        found = set(column_names(path))
        return any(set(pair) <= found for pair in ENDS)

    @classmethod
    def read(cls, config: PriorConfig) -> pd.DataFrame:
        """Return a row an edge."""
        where, found = str(config.path), column_names(config.path)
        usual = next((pair for pair in ENDS if set(pair) <= set(found)), ENDS[0])
        ends = (config.source or usual[0], config.target or usual[1])
        frame = read_frame(config.path, text=ends)
        need_columns(frame, ends, where)
        table = pd.DataFrame({"source": frame[ends[0]], "target": frame[ends[1]]})
        for key, given, known in (("sign", config.sign, SIGNS), ("weight", config.weight, WEIGHTS)):
            chosen = given or next((name for name in known if name in frame), None)
            if chosen is not None:
                need_columns(frame, (chosen,), where)
                table[key] = numbers(frame[chosen], where)
        return table
