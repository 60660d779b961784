"""What vendors deliver, from folder to graph by the command line, in a configuration of at most 15 lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aivc_graph import cli
from aivc_graph.graph.store import read_store
from tests.vendor_folders import (
    Cells,
    intensities,
    quantification,
    some_cells,
    write_cosmx,
    write_mcmicro,
    write_merscope,
    write_segmented,
    write_steinbock,
)


def _two_slides(cells: Cells, folder: Path) -> Path:
    write_cosmx(cells, folder, "S1")
    return write_cosmx(cells, folder, "S2")


def _table(cells: Cells, folder: Path) -> Path:
    folder.mkdir()
    quantification(cells).to_csv(folder / "cells.csv", index=False)
    return folder / "cells.csv"


# How it is written, what the source must say, how the section is told apart, and what is measured.
DELIVERIES = [
    ("CosMx", write_cosmx, {}, "", 1, "rna"),
    ("CosMx, two slides", _two_slides, {"label": "niche"}, "slide", 2, "rna"),
    ("MERSCOPE", write_merscope, {}, "", 1, "rna"),
    ("Visium HD cells", write_segmented, {}, "", 1, "rna"),
    ("MCMICRO table", _table, {"um_per_unit": 0.65}, "", 1, "intensity"),
    ("MCMICRO folder", write_mcmicro, {}, "", 1, "intensity"),
    ("steinbock folder", write_steinbock, {"um_per_unit": 1}, "image", 2, "intensity"),
]


@pytest.mark.parametrize(("name", "write", "options", "by", "sections", "modality"), DELIVERIES)
def test_a_delivery_becomes_a_graph(
    name: str,
    write: Callable[[Cells, Path], Path],
    options: dict[str, object],
    by: str,
    sections: int,
    modality: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cells = some_cells(200)
    path = write(cells, tmp_path / "delivery")
    lines = [
        "task:",
        "  sections:",
        "    - name: S",
        *([f"      sections_by: {by}"] if by else []),
        "      sources:",
        f"        - path: {path}",
        *[f"          {key}: {value}" for key, value in options.items()],
        "graph: {edges: {cell: {kind: knn, k: 6}}}",
    ]
    assert len(lines) <= 15
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    chosen = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    if not by:
        assert cli.main(["inspect", str(path), "--json", *chosen]) == 0, name
        seen = json.loads(capsys.readouterr().out)
        assert seen["levels"]["cell"]["nodes"] == len(cells) and seen["faults"] == []
        assert list(seen["observations"]) == [f"cell_{modality}"]
    assert cli.main(["build", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "graph.zarr")]) == 0, name
    graph = read_store(tmp_path / "graph.zarr")
    assert graph["cell"].num_nodes == sections * len(cells) and graph["section"].num_nodes == sections
    assert modality in graph.modalities("cell")
    first = graph["cell"].pos.numpy()[graph["cell"].section_index.numpy() == 0]
    np.testing.assert_allclose(np.sort(first[:, 0]), np.sort(cells.xy_um[:, 0]), rtol=1e-5)


def _objects(cells: Cells, folder: Path) -> None:
    table = intensities(cells).assign(Object=np.arange(len(cells)) + 1, area=cells.area_um2)
    table[["centroid-0", "centroid-1"]] = cells.xy_um[:, ::-1]
    parts = [table.assign(Image=f"ROI{i}", case=f"donor{i % 2}") for i in range(3)]
    pd.concat(parts).to_csv(folder / "objects.csv", index=False)


WALKS = [("cosmx", lambda cells, folder: write_cosmx(cells, folder / "cosmx", "Lung5"), 1), ("imc", _objects, 3)]


@pytest.mark.parametrize(("name", "write", "sections"), WALKS)
def test_the_walks_of_the_documentation_lead_to_niches(
    name: str, write: Callable[[Cells, Path], object], sections: int, tmp_path: Path
) -> None:
    text = (Path(__file__).parents[2] / "docs" / f"{name}.md").read_text().split("```yaml\n")[1].split("```")[0]
    assert len(text.splitlines()) <= 15
    write(some_cells(150), tmp_path)
    (tmp_path / f"{name}.yaml").write_text(text)
    run, niches = str(tmp_path / "run"), tmp_path / "niches.csv"
    assert cli.main(["train", str(tmp_path / f"{name}.yaml"), "--out", run, "--set", "training.epochs=1"]) == 0
    assert cli.main(["query", run, "niches", "--out", str(niches)]) == 0
    found = pd.read_csv(niches)
    assert len(found) == sections * 150 and found["section"].nunique() == sections and found["niche"].notna().all()
