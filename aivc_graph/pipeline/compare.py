"""Run folders or ``evaluation.json`` files → a table of paired differences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from aivc_graph.atomic import staged
from aivc_graph.errors import ConfigError
from aivc_graph.evaluation.pairs import compare_evaluations
from aivc_graph.evaluation.records import read_evaluation
from aivc_graph.io.staging import check_place
from aivc_graph.io.tables import csv_text
from aivc_graph.pipeline.scores import FILE


def compare(runs: Sequence[Path], out: Path | None = None) -> pd.DataFrame:
    """Return, and write to `out`, the paired differences of every two runs on every score they share.

    Parameters
    ----------
    runs
        Two or more: run folders that were evaluated, or ``evaluation.json`` files.
    out
        A ``.csv`` or ``.json`` file; nothing is written if not given.

    Raises
    ------
    StoreError
        If an evaluation is missing or damaged.
    ConfigError
        If there are fewer than two, or they were asked different things.

    Examples
    --------
    >>> table = compare([Path("runs/a"), Path("runs/b")])
    """
    if len(runs) < 2:
        raise ConfigError("aivc compare", f"{len(runs)} run", "two or more", "name another run")
    if len({path.resolve() for path in runs}) < len(runs):
        raise ConfigError("aivc compare", "one run twice", "each run once", "leave one of the two out")
    if out is not None:
        check_place(out)
    table = compare_evaluations({str(path): read_evaluation(path / FILE if path.is_dir() else path) for path in runs})
    if out is not None:
        with staged(out) as beside:
            beside.write_text(_written(table, out.suffix), encoding="utf-8")
    return table


def _written(table: pd.DataFrame, ending: str) -> str:
    if ending == ".csv":
        return csv_text(table, index=False)
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return json.dumps(rows, indent=1) + "\n"
