"""STRING's links between proteins, named by its own aliases."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import pandas as pd

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.decode_budget import open_text
from aivc_graph.io.priors.layout import LAYOUTS, AbstractLayout, KnownRelation, PriorConfig
from aivc_graph.io.tables import first_lines

ENDS = ("protein1", "protein2")
OF_THOUSAND = 1000.0
_HEADER = re.compile(r"protein1 protein2 .*combined_score")


@LAYOUTS.register("string", expects="STRING's links: protein1 protein2 combined_score; aliases or info as `names_by:`")
class StringLayout(AbstractLayout):
    """Proteins that are associated; the weight is the combined score as a share of one.

    References
    ----------
    Szklarczyk et al. 2023, doi:10.1093/nar/gkac1000.
    """

    relation: ClassVar[KnownRelation] = names.INTERACTS

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell it by its first line."""
        return bool(_HEADER.match(" ".join((first_lines(path, 1) or [[]])[0])))

    @classmethod
    def read(cls, config: PriorConfig) -> pd.DataFrame:
        """Return a row a pair of proteins, which STRING gives both ways."""
        try:
            with open_text(config.path) as opened:
                frame = pd.read_csv(opened, sep=" ", dtype=dict.fromkeys(ENDS, str))
            score = frame["combined_score"].to_numpy(float) / OF_THOUSAND
        except (ValueError, EOFError, OSError) as error:
            raise ReadError(str(config.path), f"a damaged table ({error})", mend="copy it again") from error
        return pd.DataFrame({"source": frame[ENDS[0]], "target": frame[ENDS[1]], "weight": score})
