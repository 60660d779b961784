"""A simulated study as a whole: same seed same bytes, what it writes, and what it refuses."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from aivc_graph.errors import ConfigError
from aivc_graph.simulate.programmes import GENES
from aivc_graph.simulate.simulate import simulate


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("tiny", tmp_path_factory.mktemp("sim") / "tiny", seed=5)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*.*"))
        if p.is_file()
    }


def test_same_seed_same_bytes_other_seed_other_tissue(files: Path, tmp_path: Path) -> None:
    assert digests(simulate("tiny", tmp_path / "again", seed=5)) == digests(files)
    other = digests(simulate("tiny", tmp_path / "other", seed=6))
    slide = "D1_untreated/slide.ome.tif"
    assert set(other) == set(digests(files)) and other[slide] != digests(files)[slide]


def test_truth_of_cells_rates_and_counterfactuals_is_about_the_same_cells(files: Path) -> None:
    for section in ("D1_untreated", "D2_knockout_tgfb1"):
        cells = pd.read_parquet(files / "truth" / section / "cells.parquet")
        delivered = pd.read_csv(files / section / "xenium/cells.csv.gz")
        assert list(delivered["cell_id"]) == list(cells["cell_id"])
        for path in (files / "truth" / section).rglob("*rates.parquet"):
            rates = pd.read_parquet(path)
            assert list(rates.index) == list(cells["cell_id"]) and list(rates.columns) == list(GENES)


def test_faults_name_what_to_do_and_nothing_is_lost(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no preset named 'tinny'; did you mean 'tiny'\?"):
        simulate("tinny", tmp_path / "x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(ConfigError, match="already holds something; name a new folder"):
        simulate("tiny", tmp_path / "mine")
    with pytest.raises(ConfigError, match="expected a whole number from 0, found -1"):
        simulate("tiny", tmp_path / "y", seed=-1)
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "thesis.txt"]
