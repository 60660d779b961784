"""Footprints of pathways: gene, pathway, weight."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pandas as pd

from aivc_graph import names
from aivc_graph.io.footprints import read_footprints
from aivc_graph.io.priors.layout import LAYOUTS, AbstractLayout, KnownRelation, PriorConfig
from aivc_graph.io.tables import column_names


@LAYOUTS.register("progeny", expects="columns gene, pathway and weight")
class ProgenyLayout(AbstractLayout):
    """How each gene follows each pathway: columns that describe genes.

    References
    ----------
    Schubert et al. 2018, doi:10.1038/s41467-017-02391-6.
    """

    relation: ClassVar[KnownRelation] = names.DESCRIBES
    sets: ClassVar[bool] = True

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell it by its columns."""
        return {"gene", "pathway", "weight"} <= set(column_names(path))

    @classmethod
    def read(cls, config: PriorConfig) -> pd.DataFrame:
        """Return a row a pathway and gene."""
        return read_footprints(config.path)
