"""What every reader asks of what it read: controls, annotation, kept rows, sections and planes on one ground."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from aivc_graph.errors import ReadError
from aivc_graph.io.intake import add_counts, controls
from aivc_graph.io.reading import read
from aivc_graph.io.tables import labels_of
from aivc_graph.tissue.doubt import doubt, doubts_heard
from aivc_graph.tissue.frame import native_positions
from aivc_graph.tissue.naming import names_of
from aivc_graph.tissue.section import add_level, new_section

N, GENES = 144, [f"G{i}" for i in range(12)]
OPTIONS: dict[str, Any] = {"level": "cell", "um_per_unit": 1.0, "diameter_um": 8.0}


def _counts(features: list[str]) -> pd.DataFrame:
    drawn = np.random.default_rng(0).poisson(2.0, (N, len(features))).astype(np.float32)
    return pd.DataFrame(drawn, columns=features, index=[f"c{i}x" for i in range(N)])


def _places() -> pd.DataFrame:
    x, y = (10.0 * v.ravel() for v in np.meshgrid(np.arange(12), np.arange(12)))
    return pd.DataFrame({"x": x, "y": y}, index=[f"c{i}x" for i in range(N)])


def _h5ad(folder: Path, counts: pd.DataFrame, obs: pd.DataFrame) -> Path:
    table = anndata.AnnData(sparse.csr_matrix(counts.to_numpy()), obs=obs, var=pd.DataFrame(index=counts.columns))
    table.obsm["spatial"] = _places().to_numpy()
    table.write_h5ad(folder / "t.h5ad")
    return folder / "t.h5ad"


def _csv(folder: Path, counts: pd.DataFrame, obs: pd.DataFrame) -> Path:
    whole = pd.concat([counts, obs.drop(columns=[c for c in obs if c in counts]), _places()], axis=1)
    whole.to_csv(folder / "t.csv", index_label="barcode")
    return folder / "t.csv"


def _loom(folder: Path, counts: pd.DataFrame, obs: pd.DataFrame) -> Path:
    with h5py.File(folder / "t.loom", "w") as file:
        file["matrix"] = counts.to_numpy().T
        columns = {"CellID": counts.index, "X": _places()["x"], "Y": _places()["y"], **obs}
        for group, items in (("col_attrs", columns), ("row_attrs", {"Gene": counts.columns})):
            for name, values in items.items():
                found = np.asarray(values)
                file[f"{group}/{name}"] = found if found.dtype.kind in "iuf" else found.astype("S")
    return folder / "t.loom"


WRITERS = [_h5ad, _csv, _loom]
Writer = Callable[[Path, pd.DataFrame, pd.DataFrame], Path]


def _obs(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns, index=_places().index)


def _read(path: Path, **options: Any) -> tuple[Any, str]:
    named = {".csv": "plain_table"}
    extra = {"columns": options.pop("columns", ())}
    with doubts_heard() as doubts:
        section = read(path, reader=named.get(path.suffix), **{**OPTIONS, **extra, **options})
    return section, "\n".join(doubts)


@pytest.mark.parametrize("write", WRITERS)
def test_controls_are_no_genes_whatever_the_reader(
    write: Writer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "aivc_graph")
    probes = ["Blank-1", "NegPrb3", "NegControlProbe_00042", "SystemControl12", "BLANK_0069"]
    section, _ = _read(write(tmp_path, _counts([*GENES, *probes]), _obs()))
    assert sorted(section.tables["cell_rna"].var_names) == sorted(GENES)
    assert "5 of 17 features dropped as controls" in caplog.text
    assert section.tables["cell_rna"].uns["genes"]["dropped_controls"] == 5


def test_genes_that_sound_like_controls_stay() -> None:
    genes = pd.Index(["NEGR1", "BLNK", "CTRL", "FOV1", "NEG1X", "BLANKX", "SYSTEM1"])
    assert not controls(genes).any()
    kinds = pd.Series(["Gene Expression", "Negative Control Probe", "Unassigned Codeword", "Gene Expression"])
    assert controls(pd.Index(["A", "B", "C", "D"]), kinds).tolist() == [False, True, True, False]


@pytest.mark.parametrize("write", WRITERS)
def test_spots_off_the_tissue_are_left_out_unless_wanted(write: Writer, tmp_path: Path) -> None:
    path = write(tmp_path, _counts(GENES), _obs(in_tissue=(np.arange(N) >= 40).astype(int)))
    assert len(_read(path)[0].shapes["cell"]) == _read(path)[0].tables["cell_rna"].n_obs == 104
    assert len(_read(path, only_in_tissue=False)[0].shapes["cell"]) == N
    assert len(_read(path, keep={"in_tissue": 0}, only_in_tissue=False)[0].shapes["cell"]) == 40


@pytest.mark.parametrize("write", WRITERS)
def test_sections_on_one_ground_are_doubted_and_read_one_at_a_time(write: Writer, tmp_path: Path) -> None:
    path = write(tmp_path, _counts(GENES), _obs(library_id=np.array(["A", "B"])[np.arange(N) % 2]))
    assert "'A' and 'B' (by column 'library_id') lie on the same ground" in _read(path)[1]
    section, said = _read(path, keep={"library_id": "B"})
    assert len(section.shapes["cell"]) == N // 2 and not said


@pytest.mark.parametrize("name", ["c{}-{}", "{1}_c{0}"])
def test_sections_told_apart_by_their_names_alone_are_doubted(name: str, tmp_path: Path) -> None:
    counts, obs = _counts(GENES), _obs()
    counts.index = obs.index = pd.Index([name.format(i // 2, i % 2) for i in range(N)])
    assert "of their names) lie on the same ground" in _read(_h5ad(tmp_path, counts, obs))[1]


def test_fields_of_view_and_types_that_lie_as_they_should_are_not_doubted(tmp_path: Path) -> None:
    fov = (np.arange(N) % 12 >= 6).astype(int) + 2 * (np.arange(N) >= N // 2)
    path = _h5ad(tmp_path, _counts(GENES), _obs(fov=fov, cell_type=np.array(["a", "b"])[np.arange(N) % 2]))
    assert _read(path)[1] == ""


def test_annotation_of_plain_tables_is_no_gene(tmp_path: Path) -> None:
    counts = _counts(GENES)
    whole = counts.assign(fov=1, total_counts=counts.sum(axis=1), leiden=np.arange(N) % 5, all_of_it=0, run=7)
    whole["all_of_it"] = counts.sum(axis=1)
    section, said = _read(_csv(tmp_path, whole.drop(columns="run"), _obs()))
    assert sorted(section.tables["cell_rna"].var_names) == sorted(GENES)
    assert all(name in said for name in ("'fov'", "'total_counts'", "'leiden'", "'all_of_it' (the sum of all others)"))
    section, said = _read(_csv(tmp_path, counts.assign(run=7), _obs()))
    assert "run" not in section.tables["cell_rna"].var_names and "'run' (the same in every row)" in said


@pytest.mark.parametrize("write", [_h5ad, _csv, _loom])
def test_a_gene_that_is_named_like_an_axis_is_a_gene_and_a_series_of_axes_is_none(
    tmp_path: Path, write: Callable[[Path, pd.DataFrame, pd.DataFrame], Path]
) -> None:
    counts = _counts([*GENES, "PCA3"])
    section, said = _read(write(tmp_path, counts, _obs()))
    assert "PCA3" in section.tables["cell_rna"].var_names and said == ""
    axes = counts.assign(PCA1=counts["G0"], PCA2=counts["G1"], UMAP_1=counts["G2"])
    section, said = _read(write(tmp_path, axes, _obs()))
    assert sorted(section.tables["cell_rna"].var_names) == sorted(GENES) and "'PCA2'" in said


def test_logarithms_of_a_gene_that_is_named_like_an_axis_are_kept(tmp_path: Path) -> None:
    path = _h5ad(tmp_path, np.log1p(_counts([*GENES, "PCA3"])), _obs())
    section, said = _read(path, values="log")
    assert "PCA3" in next(iter(section.tables.values())).var_names and said == ""


def test_columns_of_the_positions_are_no_genes(tmp_path: Path) -> None:
    _counts(GENES).assign(well=np.arange(N) % 3).to_csv(tmp_path / "t.csv", index_label="barcode")
    _places().assign(well=np.arange(N) % 3).to_csv(tmp_path / "p.csv", index_label="barcode")
    section, said = _read(tmp_path / "t.csv", positions=tmp_path / "p.csv")
    assert "well" not in section.tables["cell_rna"].var_names and "or stand in the positions as well: well" in said


def test_a_second_plane_is_doubted_and_a_thin_one_is_not(tmp_path: Path) -> None:
    path = _h5ad(tmp_path, _counts(GENES), _obs())
    for height, told in ((100.0, True), (8.0, False)):
        table = anndata.read_h5ad(path)
        table.obsm["spatial"] = np.column_stack([_places().to_numpy(), height * (np.arange(N) % 2)])
        table.write_h5ad(tmp_path / "z.h5ad")
        section, said = _read(tmp_path / "z.h5ad")
        assert ("heights over 100 µm" in said) == told and native_positions(section, "cell").shape == (N, 2)
    said = _read(_csv(tmp_path, _counts(GENES), _obs(center_z=50.0 * (np.arange(N) % 2))))[1]
    assert "heights over 50 µm" in said


def test_positions_in_a_table_are_read_by_name(tmp_path: Path) -> None:
    table = anndata.read_h5ad(_h5ad(tmp_path, _counts(GENES), _obs()))
    table.obsm["spatial"] = _places()[["y", "x"]]
    table.write_h5ad(tmp_path / "yx.h5ad")
    np.testing.assert_array_equal(native_positions(_read(tmp_path / "yx.h5ad")[0], "cell"), _places())
    table.obsm["spatial"] = _places().rename(columns={"x": "u", "y": "v"})
    table.write_h5ad(tmp_path / "uv.h5ad")
    with pytest.raises(ReadError, match=r"expected x and y, found columns u, v"):
        _read(tmp_path / "uv.h5ad")


def test_counts_in_raw_are_offered_and_can_be_named(tmp_path: Path) -> None:
    table = anndata.read_h5ad(_h5ad(tmp_path, _counts(GENES), _obs()))
    table.var["symbol"] = [f"S{i}" for i in range(12)]
    table.raw = table.copy()
    table.X = table.X.log1p()
    table.write_h5ad(tmp_path / "raw.h5ad")
    with pytest.raises(ReadError, match=r"not whole.*`layer:` \(layers: raw\)"):
        _read(tmp_path / "raw.h5ad")
    found = _read(tmp_path / "raw.h5ad", layer="raw", symbols="symbol")[0].tables["cell_rna"]
    assert found.X.sum() == _counts(GENES).to_numpy().sum() and found.var_names[3] == "S3"


def test_numbers_that_are_names_keep_their_digits() -> None:
    assert names_of(pd.Series([3.0, np.nan, 4.0])).tolist() == ["3", None, "4"]
    assert names_of(pd.Series([b"a", b"b"])).tolist() == ["a", "b"]
    assert names_of(pd.Series(["1.0", "2.0"])).tolist() == ["1", "2"]
    assert names_of(pd.Series(["1.0", "2.5"])).tolist() == ["1.0", "2.5"]
    assert names_of(pd.Series([1234567890123456789])).tolist() == ["1234567890123456789"]
    assert labels_of(pd.Series([3, 4])).tolist() == labels_of(pd.Series([3.0, 4.0])).tolist()
    with pytest.raises(ReadError, match=r"held as floats: their last digits are lost"):
        names_of(pd.Series([1234567890123456789.0, np.nan], name="id"))


def test_a_text_is_heard_once_and_only_inside() -> None:
    with doubts_heard() as doubts:
        for _ in range(2):
            doubt("section A", "one spot", "two", "look")
    doubt("section B", "said to nobody")
    assert doubts == ["section A: expected two, found one spot; look"]


def test_missing_options_are_named_at_once_and_inspect_says_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from aivc_graph.cli import main

    path = _h5ad(tmp_path, _counts(GENES), _obs(kind="a"))
    with pytest.raises(ReadError, match=r"(?s)level: expected cell or patch.*10 units apart.*diameter_um"):
        read(path)
    assert main(["inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["features"], found["spacing_in_units"]) == (N, 12, 10.0)
    assert len(found["needs"]) == 3 and found["columns"] == ["kind"]
    given = [f"--set={key}={value}" for key, value in OPTIONS.items()]
    assert main(["inspect", str(path), "--json", *given]) == 0
    assert json.loads(capsys.readouterr().out)["levels"]["cell"]["spacing_um"] == 10.0


@pytest.mark.parametrize(("kind", "told"), [("counts", False), ("rounded", True), ("thinned", True), ("few", False)])
def test_whole_numbers_that_add_up_to_one_depth_are_doubted(kind: str, told: bool) -> None:
    rng = np.random.default_rng(0)
    rate = rng.gamma(2.0, 2.0, (80, 60))
    counts = {
        "counts": rng.poisson(rate),
        "rounded": np.round(rate / rate.sum(1, keepdims=True) * 1e4),
        "thinned": np.stack([rng.multinomial(200, row / row.sum()) for row in rate]),
        "few": np.stack([rng.multinomial(20, row / row.sum()) for row in rate]),
    }[kind]
    names = pd.Index([f"c{i}" for i in range(80)])
    table = anndata.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=pd.DataFrame(index=names))
    table.var_names = [f"G{i}" for i in range(60)]
    section = new_section("s")
    add_level(section, "cell", names, 20.0 * np.column_stack([np.arange(80) % 9, np.arange(80) // 9]), 5.0, np.eye(3))
    with doubts_heard() as doubts:
        add_counts(section, "cell", table, "t")
    assert any("if they were normalised and rounded" in one for one in doubts) == told


def test_blanks_around_a_label_are_no_part_of_it() -> None:
    assert list(labels_of(pd.Series([" T cell", "T cell ", None, "  ", "NA "]))) == [
        "T cell",
        "T cell",
        None,
        None,
        None,
    ]
    assert list(labels_of(pd.Series([None, None], dtype=object))) == [None, None]
