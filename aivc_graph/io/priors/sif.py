"""Simple interaction format: source, relation, targets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import pandas as pd

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.decode_budget import open_text
from aivc_graph.io.priors.layout import LAYOUTS, AbstractLayout, KnownRelation, PriorConfig

_DOWN = re.compile(r"inhib|repress|down|^-1$|^-\|$|^\|-", re.I)
_UP = re.compile(r"activ|stimul|induc|up|^1$|^\+1?$|->", re.I)
_LINES = 20


@LAYOUTS.register("sif", expects="lines without a header: source, relation, target (and more targets), tab or space")
class SifLayout(AbstractLayout):
    """Edges whose relation says their sign, where it is one of activation or inhibition.

    References
    ----------
    Shannon et al. 2003, doi:10.1101/gr.1239303 (Cytoscape).
    """

    relation: ClassVar[KnownRelation] = names.INTERACTS

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell it by lines of three fields and more, of which the middle ones are few words used over and over."""
        rows = _rows(path, _LINES)
        words = {row[1] for row in rows}
        return len(rows) > 0 and all(len(row) > 2 for row in rows) and len(words) <= max(1, len(rows) // 2)

    @classmethod
    def read(cls, config: PriorConfig) -> pd.DataFrame:
        """Return a row a source and target."""
        rows = _rows(config.path)
        short = [i for i, row in enumerate(rows, 1) if len(row) == 2]
        if short:
            raise ReadError(str(config.path), f"two fields in line {short[0]}", "source, relation, target")
        edges = [(row[0], target, _sign(row[1])) for row in rows for target in row[2:]]
        return pd.DataFrame(edges, columns=["source", "target", "sign"])


def _sign(word: str) -> float:
    return -1.0 if _DOWN.search(word) else 1.0 if _UP.search(word) else 0.0


def _rows(path: Path, most: int | None = None) -> list[list[str]]:
    """Return the fields of the first lines, or of all; a node alone in a line has no edge."""
    rows: list[list[str]] = []
    with open_text(path) as opened:
        for line in opened:
            text = line.decode("utf-8").strip()
            fields = text.split("\t") if "\t" in text else text.split()
            if len(fields) > 1:
                rows.append(fields)
            if most is not None and len(rows) == most:
                break
    return rows
