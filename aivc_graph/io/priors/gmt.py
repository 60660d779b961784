"""Gene sets as GMT: name, description, genes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pandas as pd

from aivc_graph import names
from aivc_graph.io.footprints import read_footprints
from aivc_graph.io.priors.layout import LAYOUTS, AbstractLayout, KnownRelation, PriorConfig
from aivc_graph.io.tables import first_lines


@LAYOUTS.register("gmt", expects="a line a set: its name, a description, and its genes, tab-separated")
class GmtLayout(AbstractLayout):
    """Gene sets, usually columns that describe genes; with ``relation: regulates`` the set's name is a factor.

    References
    ----------
    Subramanian et al. 2005, doi:10.1073/pnas.0506580102.
    """

    relation: ClassVar[KnownRelation] = names.DESCRIBES
    sets: ClassVar[bool] = True

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell it by its ending, for its lines have no header and no fixed width."""
        return path.suffix == ".gmt" and len((first_lines(path, 1) or [[]])[0]) > 2

    @classmethod
    def read(cls, config: PriorConfig) -> pd.DataFrame:
        """Return a row a set and gene."""
        return read_footprints(config.path)
