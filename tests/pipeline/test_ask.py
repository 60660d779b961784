"""Questions to a run by the command line: tables, pictures and files for other tools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from aivc_graph.graph.store import read_store
from aivc_graph.plot.palette import nth_colour

pytestmark = pytest.mark.usefixtures("where_data_lies")


@pytest.mark.parametrize("level", ["cell", "patch", "region"])
def test_niches_as_csv_parquet_and_h5ad_say_the_same(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]], level: str
) -> None:
    for ending in ("csv", "parquet", "h5ad"):
        out = tmp_path / f"niches.{ending}"
        code, said, _ = say("query", made / "run", "niches", "--k", 3, "--level", level, "--out", out)
        assert code == 0 and said.strip() == str(out)
    answer = ad.read_h5ad(tmp_path / "niches.h5ad")
    csv = pd.read_csv(tmp_path / "niches.csv", index_col=0)
    parquet = pd.read_parquet(tmp_path / "niches.parquet")
    assert list(csv.columns) == list(parquet.columns) and {"section", "barcode", "x_um", "y_um", "niche"} <= set(csv)
    assert list(csv.index) == list(parquet.index) == list(answer.obs_names)
    np.testing.assert_allclose(csv[["niche_1", "niche_2", "niche_3"]], answer.X, atol=1e-5)
    np.testing.assert_array_equal(answer.obsm["spatial"], answer.obs[["x_um", "y_um"]])
    assert (csv["niche"].astype("Int64").astype(str) == answer.obs["niche"].astype(str)).all()


@pytest.mark.parametrize(
    ("asked", "columns"),
    [
        (["expression", "--genes", "EPCAM,CD3E", "--at", "niche"], {"niche", "gene", "expected", "lower", "unit"}),
        (["composition"], {"niche", "n_nodes"}),
        (["neighbours"], {"niche_a", "niche_b", "contacts", "expected", "log2_ratio"}),
        (["similar", "--to-niche", "1", "--n", "7"], {"section", "barcode", "x_um", "y_um", "distance"}),
    ],
)
def test_questions_as_tables(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]], asked: list[str], columns: set[str]
) -> None:
    out = tmp_path / "answers/answer.csv"
    assert say("query", made / "run", *asked, "--out", out)[0] == 0
    table = pd.read_csv(out)
    assert columns <= set(table) and len(table)
    code, shown, _ = say("query", made / "run", *asked)
    assert code == 0 and all(name in shown for name in columns)
    code, _, err = say(
        "query", tmp_path / "no run", *asked, "--out", tmp_path / "answer.h5ad"
    )  # said before it is read
    assert code == 2 and "a table cannot be an .h5ad; name a .csv or .parquet file" in err


def test_similar_to_a_cell_by_section_and_barcode(made: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    barcode = read_store(made / "graph.zarr").obs("cell")["barcode"].iloc[5]
    code, shown, _ = say("query", made / "run", "similar", "--to-node", barcode, "--section", "s1", "--n", 4)
    assert code == 0 and shown.count("s1:") == 4 and f"s1:{barcode} " not in shown


def test_the_plot_is_a_picture_in_colour(made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    assert say("query", made / "run", "niches", "--k", 3, "--plot", tmp_path / "niches.png")[0] == 0
    picture = (imread(tmp_path / "niches.png")[..., :3] * 255).astype(int)
    assert min(picture.shape[:2]) > 300
    coloured = picture[np.ptp(picture, axis=-1) > 60] // 32
    assert len(np.unique(coloured, axis=0)) >= 3


def test_answers_that_cannot_be_written_are_named(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("mine")
    for wrong, said in (
        (("--out", tmp_path / "folder.csv"), "found a folder"),
        (("--out", tmp_path / "file/x.csv"), "Not a directory: nothing can be written there"),
        (("--plot", tmp_path / "niches.xyz"), "expected .png or .pdf or .svg, found the ending '.xyz'"),
        (("--plot", tmp_path / "file/niches.png"), "nothing can be written there; free space, or choose another"),
    ):
        code, _, err = say("query", made / "run", "niches", "--k", 2, *wrong)
        assert code == 2 and said in err and err.count("Error: ") == 1
    assert say("query", made / "run", "niches", "--k", 2, "--plot", tmp_path / "new/niches.pdf")[0] == 0
    assert (tmp_path / "new/niches.pdf").read_bytes().startswith(b"%PDF")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.csv", "new"]


@pytest.mark.parametrize("to", ["h5ad", "spatialdata", "geojson", "graphml"])
def test_exports_hold_the_niches(made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]], to: str) -> None:
    out = tmp_path / {"h5ad": "run7.cell.h5ad", "spatialdata": "out.zarr"}.get(to, f"out.{to}")
    assert say("export", made / "run", "--to", to, "--out", out)[0] == 0
    assert out.exists()
    if to == "h5ad":
        table = ad.read_h5ad(out)
        assert list(table.uns["niche_colors"]) == [nth_colour(i) for i in range(len(table.obs["niche"].cat.categories))]
    if to in ("geojson", "graphml"):
        assert "niche" in out.read_text()


def test_wrong_questions_exit_2(made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = say("query", made / "run", "expression", "--genes", "EPCAN")
    assert code == 2 and "did you mean 'EPCAM'?" in err
    code, _, err = say("query", tmp_path, "niches")
    assert code == 2 and "no run.json; train first: aivc train CONFIG --out RUN" in err
    code, _, err = say("train", made / "tiny.yaml", "--graph", tmp_path / "absent.zarr", "--out", tmp_path / "r")
    assert code == 2 and "no such graph store; build it" in err
    code, _, err = say("build", made / "tiny.yaml", "--set", "task.sections[0].sources[1].path=nowhere")
    assert code == 2 and "nowhere" in err
