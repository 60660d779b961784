"""The truth of another study whose sections are called alike is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import ReadError
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.pipeline.truth import Truth, check_truth
from aivc_graph.simulate.presets import PRESETS
from aivc_graph.simulate.simulate import simulate


@pytest.fixture(scope="module")
def graph(striped_section: Callable[..., Any]) -> TissueGraph:
    return build_graph([striped_section(name, n=200, levels=("cell", "patch"), seed=i) for i, name in enumerate("ab")])


def write(graph: TissueGraph, folder: Path, sections: str = "ab") -> Truth:
    """Write what the graph has as the truth of some of its sections."""
    for level, name, key in (("cell", "cells", "cell_id"), ("patch", "spots", "barcode")):
        obs = graph.obs(level)
        table = pd.DataFrame(graph[level].pos.numpy(), columns=["x_um", "y_um"]).assign(niche="n")
        table.insert(0, key, obs["barcode"].to_numpy())
        for section in sections:
            (folder / section).mkdir(parents=True, exist_ok=True)
            mine = table[(obs["section"] == section).to_numpy()]
            mine.sample(frac=1.0, random_state=0).to_parquet(folder / section / f"{name}.parquet", index=False)
    return Truth(folder)


def spoil(truth: Truth, name: str, change: Callable[[pd.DataFrame], pd.DataFrame], section: str = "b") -> None:
    path = truth.folder / section / f"{name}.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)


def test_the_own_truth_is_accepted_whole_or_of_some_sections(graph: TissueGraph, tmp_path: Path) -> None:
    check_truth(write(graph, tmp_path / "all"), graph)
    check_truth(write(graph, tmp_path / "one", "b"), graph)
    registered = write(graph, tmp_path / "registered")
    spoil(registered, "cells", lambda table: table.assign(x_um=table["x_um"] + 15.0))
    check_truth(registered, graph)


def test_other_barcodes_and_other_places_are_refused_all_at_once(graph: TissueGraph, tmp_path: Path) -> None:
    truth = write(graph, tmp_path)
    spoil(truth, "cells", lambda table: table.assign(cell_id=np.roll(table["cell_id"], 7)))
    spoil(truth, "spots", lambda table: table.assign(barcode="x" + table["barcode"]))
    with pytest.raises(ReadError) as caught:
        check_truth(truth, graph)
    first, second = str(caught.value).splitlines()
    assert (
        "b/cells.parquet: expected ≤ 50 µm, found the same barcodes " in first and "from where the graph has" in first
    )
    assert "b/spots.parquet: expected ≥ 95%, found 0% of the graph's 25 barcodes" in second
    assert "name the truth of the very study the run was trained on" in second


def test_the_truth_of_no_section_is_refused(graph: TissueGraph, tmp_path: Path) -> None:
    truth = write(graph, tmp_path)
    for section in "ab":
        (tmp_path / section).rename(tmp_path / f"{section}2")
    with pytest.raises(ReadError, match="the truth of none of the run's sections"):
        check_truth(truth, graph)


def test_windows_over_cells_are_not_asked_for_the_barcodes_of_spots(
    striped_section: Callable[..., Any], graph: TissueGraph, tmp_path: Path
) -> None:
    cells = build_graph([striped_section(name, n=200, seed=i) for i, name in enumerate("ab")])
    truth = write(graph, tmp_path)
    for section in "ab":
        (tmp_path / section / "cells.parquet").unlink()
    with pytest.raises(ReadError, match="the truth of none"):
        check_truth(truth, cells)
    check_truth(truth, graph)


def test_truth_of_the_same_places_and_another_content_is_refused(graph: TissueGraph, tmp_path: Path) -> None:
    truth = write(graph, tmp_path)
    for section in "ab":
        (tmp_path / section / "delivered.json").write_text(json.dumps({"m.h5": ["1", "2"], "c.csv": [section]}))
    mine = {"a/m.h5": "1", "a/c.csv": "edited", "b/m.h5": "2", "b/c.csv": "b", "ab/m.h5": "3"}
    check_truth(truth, graph, mine)
    check_truth(truth, graph, {"a/table.h5ad": "3"})  # read from what was made of it: nothing can be told
    check_truth(truth, graph)
    with pytest.raises(ReadError) as caught:
        check_truth(truth, graph, mine | {"b/m.h5": "3", "b/c.csv": "3"})
    (told,) = str(caught.value).splitlines()
    assert "b/delivered.json: expected the same, found another c.csv, m.h5 than the graph was built from" in told
    (tmp_path / "a/delivered.json").write_text("{")
    with pytest.raises(ReadError, match="simulate again"):
        check_truth(truth, graph, mine)


def test_studies_of_one_seed_are_told_apart_by_what_they_delivered(tmp_path: Path) -> None:
    one, other = (
        simulate(replace(PRESETS["tiny"], niche_structure=structure), tmp_path / name, seed=0)
        for name, structure in (("one", True), ("other", False))
    )
    places = [pd.read_parquet(study / "truth/D1_untreated/cells.parquet")["cell_id"] for study in (one, other)]
    assert set(places[0][:100]) == set(places[1][:100])
    read = [json.loads((study / "truth/D1_untreated/delivered.json").read_text()) for study in (one, other)]
    assert set(read[0]) == set(read[1]) and read[0]["cell_feature_matrix.h5"] != read[1]["cell_feature_matrix.h5"]
    digest = hashlib.sha256(next((one / "D1_untreated").rglob("cell_feature_matrix.h5")).read_bytes()).hexdigest()
    assert digest in read[0]["cell_feature_matrix.h5"]
