"""Ligands and receptors as LIANA gathers them from many resources."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pandas as pd

from aivc_graph import names
from aivc_graph.errors import ReadError, unknown_name
from aivc_graph.io.priors.cellchat import subunit_pairs
from aivc_graph.io.priors.layout import LAYOUTS, AbstractLayout, KnownRelation, PriorConfig
from aivc_graph.io.tables import column_names, read_frame

SYMBOLS = ("source_genesymbol", "target_genesymbol")
CONSENSUS = {"mouse": "mouseconsensus"}


@LAYOUTS.register("liana", expects="columns source_genesymbol, target_genesymbol and, of several, resource")
class LianaLayout(AbstractLayout):
    """Ligand binds receptor, of one resource; subunits of complexes are joined by ``_``.

    References
    ----------
    Dimitrov et al. 2022, doi:10.1038/s41467-022-30755-0.
    """

    relation: ClassVar[KnownRelation] = names.BINDS

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell it by its columns."""
        found = set(column_names(path))
        return set(SYMBOLS) <= found and not {"mor", "is_stimulation"} & found

    @classmethod
    def read(cls, config: PriorConfig) -> pd.DataFrame:
        """Return a row a subunit of a ligand and one of its receptor."""
        frame = read_frame(config.path, text=(*SYMBOLS, "resource"))
        if "resource" in frame:
            wanted = config.resource or CONSENSUS.get(config.species or "", "consensus")
            if wanted not in set(frame["resource"]):
                raise unknown_name(ReadError, str(config.path), "resource", wanted, set(frame["resource"].dropna()))
            frame = frame[frame["resource"] == wanted]
        return subunit_pairs(zip(frame[SYMBOLS[0]], frame[SYMBOLS[1]], strict=True), "_")
