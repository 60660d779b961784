"""Slide-seq: beads and their counts, gene by gene, in the layout of the published pucks."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import ReadError
from aivc_graph.io.reading import read, recognise
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import diameters_um, positions_um

PUCK = "Puck_200115_08"


@pytest.fixture
def puck(tmp_path: Path) -> Path:
    """A hundred beads 20 pixels apart, ninety of them with counts, in another order."""
    rng = np.random.default_rng(0)
    beads = ["".join(rng.choice(list("ACGT"), 14)) for _ in range(100)]
    place = pd.DataFrame({"barcodes": beads, "xcoord": 20.0 * (np.arange(100) % 10) + 700.0})
    place["ycoord"] = 20.0 * (np.arange(100) // 10)
    place.to_csv(tmp_path / f"{PUCK}_bead_locations.csv", index=False)
    counts = pd.DataFrame(rng.poisson(1.0, (12, 90)), columns=rng.permutation(beads[:90]))
    counts.insert(0, "GENE", [f"Gene{i}" for i in range(12)])
    text = counts.to_csv(sep="\t", index=False)
    (tmp_path / f"{PUCK}.digital_expression.txt.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def test_beads_are_patches_of_ten_microns(puck: Path) -> None:
    assert recognise(puck) == "slide_seq"
    with doubts_heard() as doubts:
        section = read(puck)
    table = section.tables["patch_rna"]
    counts = pd.read_csv(puck / f"{PUCK}.digital_expression.txt.gz", sep="\t", index_col=0).T
    pd.testing.assert_frame_equal(
        table.to_df().loc[counts.index, counts.columns], counts, check_dtype=False, check_names=False
    )
    places = pd.read_csv(puck / f"{PUCK}_bead_locations.csv").set_index("barcodes")
    expected = 0.65 * places.loc[section.shapes["patch"].index, ["xcoord", "ycoord"]].to_numpy()
    np.testing.assert_allclose(positions_um(section, "patch"), expected)
    assert (diameters_um(section, "patch") == 10).all()
    assert any("0.65 µm a pixel" in one for one in doubts)
    assert any("10 of 100 beads have no counts and are left out" in one for one in doubts)


def test_r_writes_its_own_names(puck: Path) -> None:
    (puck / f"{PUCK}_bead_locations.csv").rename(puck / "BeadLocationsForR.csv")
    counts = pd.read_csv(puck / f"{PUCK}.digital_expression.txt.gz", sep="\t", index_col=0)
    (puck / f"{PUCK}.digital_expression.txt.gz").unlink()
    counts.to_csv(puck / "MappedDGEForR.csv", index_label="Row")
    assert read(puck, um_per_unit=0.65).tables["patch_rna"].X.sum() == counts.to_numpy().sum()


def test_one_of_several_pucks_is_named(puck: Path) -> None:
    for path in list(puck.iterdir()):
        (puck / path.name.replace("_08", "_09")).write_bytes(path.read_bytes())
    with pytest.raises(ReadError, match=r"bead locations: expected one, found 2 such files.*as `puck:`"):
        read(puck)
    assert read(puck, puck="Puck_200115_09").tables["patch_rna"].n_obs == 90


def test_counts_of_another_puck_are_refused(puck: Path) -> None:
    places = pd.read_csv(puck / f"{PUCK}_bead_locations.csv")
    places["barcodes"] = "N" + places["barcodes"]
    places.to_csv(puck / f"{PUCK}_bead_locations.csv", index=False)
    with pytest.raises(ReadError, match=r"expected the same barcodes, found beads such as 'N"):
        read(puck)
