"""Signed regulons as DoRothEA and CollecTRI write them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pandas as pd

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.priors.layout import LAYOUTS, AbstractLayout, KnownRelation, PriorConfig
from aivc_graph.io.tables import column_names, numbers, read_frame

FACTORS, MODES = ("tf", "source", "source_genesymbol"), ("mor", "weight", "sign")


@LAYOUTS.register("regulons", expects="columns tf (or source), target, and mor (or weight); DoRothEA's also confidence")
class RegulonLayout(AbstractLayout):
    """Factors and their targets; the mode of regulation is sign and weight at once.

    References
    ----------
    Garcia-Alonso et al. 2019, doi:10.1101/gr.240663.118 (DoRothEA); Müller-Dott et al. 2023, doi:10.1093/nar/gkad841
    (CollecTRI).
    """

    relation: ClassVar[KnownRelation] = names.REGULATES

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell it by its columns: those of DoRothEA, or what decoupler makes of CollecTRI."""
        found = set(column_names(path))
        return {"tf", "target"} <= found or ({"source", "target"} <= found and bool({"mor", "resources"} & found))

    @classmethod
    def read(cls, config: PriorConfig) -> pd.DataFrame:
        """Return a row a factor and target."""
        frame = read_frame(config.path, text=(*FACTORS, "target"))
        factor = next(name for name in FACTORS if name in frame)
        if config.confidence is not None:
            if "confidence" not in frame:
                raise ReadError(str(config.path), "no column 'confidence'", mend="leave out `confidence:`")
            frame = frame[frame["confidence"].isin(list(config.confidence))]
        mode = next((name for name in MODES if name in frame), None)
        table = pd.DataFrame({"source": frame[factor], "target": frame["target"]})
        if mode is not None:
            table["weight"] = table["sign"] = numbers(frame[mode], str(config.path))
        return table
