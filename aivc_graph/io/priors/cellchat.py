"""Ligands and receptors as CellChat's database has them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import pandas as pd

from aivc_graph import names
from aivc_graph.io.priors.layout import LAYOUTS, AbstractLayout, KnownRelation, PriorConfig
from aivc_graph.io.tables import column_names, read_frame


@LAYOUTS.register("cellchat", expects="CellChat's table of interactions, with ligand.symbol and receptor.symbol")
class CellChatLayout(AbstractLayout):
    """Ligand binds receptor; of a complex each subunit is bound, by as much as makes one in sum.

    References
    ----------
    Jin et al. 2021, doi:10.1038/s41467-021-21246-9.
    """

    relation: ClassVar[KnownRelation] = names.BINDS

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell it by its columns."""
        return {"interaction_name", "ligand.symbol", "receptor.symbol"} <= set(column_names(path))

    @classmethod
    def read(cls, config: PriorConfig) -> pd.DataFrame:
        """Return a row a subunit of a ligand and one of its receptor."""
        frame = read_frame(config.path, text=("ligand.symbol", "receptor.symbol"))
        return subunit_pairs(zip(frame["ligand.symbol"], frame["receptor.symbol"], strict=True), ",")


def subunit_pairs(pairs: Iterable[tuple[object, object]], between: str) -> pd.DataFrame:
    """Return a row a subunit of either side; a complex of n on one side and m on the other gives n·m of weight 1/nm."""
    rows = []
    for pair in pairs:
        ligands, receptors = ([name.strip() for name in str(side).split(between) if name.strip()] for side in pair)
        share = 1.0 / max(len(ligands) * len(receptors), 1)
        rows += [(one, other, share) for one in ligands for other in receptors if "nan" not in (one, other)]
    return pd.DataFrame(rows, columns=["source", "target", "weight"])
