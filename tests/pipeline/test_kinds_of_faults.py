"""Kinds of faults that outsiders ran into, each in places other than those it was found in."""

from __future__ import annotations

import gzip
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
from scipy.io import mmwrite

from aivc_graph.errors import ReadError
from aivc_graph.io.reading import read, recognise
from aivc_graph.tissue.doubt import doubts_heard

Say = Callable[..., tuple[int, str, str]]
N, GENES = 144, [f"GENE{i}" for i in range(30)]
PLACED: dict[str, Any] = {"level": "cell", "um_per_unit": 1.0, "diameter_um": 8.0}


def _table(genes: list[str] = GENES, seed: int = 0) -> Any:
    counts = np.random.default_rng(seed).poisson(3.0, (N, len(genes))).astype(np.float32)
    obs = pd.DataFrame(index=[f"c{i}x" for i in range(N)])
    table = anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=genes))
    table.obsm["spatial"] = 10.0 * np.column_stack([np.arange(N) % 12, np.arange(N) // 12])
    return table


def _logs(table: Any, depth: float) -> Any:
    x = table.X.toarray()
    return anndata.AnnData(np.log1p(depth * x / x.sum(axis=1, keepdims=True)), obs=table.obs, var=table.var)


def _read(table: Any, folder: Path, **options: Any) -> tuple[Any, str]:
    table.write_h5ad(folder / "t.h5ad")
    with doubts_heard() as doubts:
        section = read(folder / "t.h5ad", **options)
    return section, "\n".join(doubts)


def _build(say: Say, folder: Path, sections: str) -> tuple[int, str]:
    """Build sections and return the exit code, and what the store, or the error, says."""
    (folder / "t.yaml").write_text(f"task: {{name: t, sections: [{sections}]}}\n")
    code, _, err = say("build", folder / "t.yaml", "--out", folder / "g.zarr")
    return code, err if code else "\n".join(json.loads(say("inspect", folder / "g.zarr", "--json")[1])["doubts"])


# A guard in one place of several alike.


def test_controls_and_annotation_are_no_genes_among_logarithms_either(tmp_path: Path) -> None:
    table = _logs(_table([*GENES, "Blank-1", "NegPrb3", "total_counts"]), 1e4)
    section, said = _read(table, tmp_path, dissociated=True, values="log")
    assert list(section.tables["cell_log_expression"].var_names) == GENES and "3 of 33 features left out" in said
    table.var["feature_types"] = ["Gene Expression"] * 29 + ["Antibody Capture"] + ["Gene Expression"] * 3
    section, said = _read(table, tmp_path, dissociated=True, values="log")
    assert "GENE29" not in section.tables["cell_log_expression"].var_names and "3 of 33" in said


def test_a_gene_that_stands_twice_is_not_doubled_by_its_copy(tmp_path: Path) -> None:
    table = _table()
    twice = anndata.AnnData(sparse.hstack([table.X, table.X[:, :2], table.X[:, 5:6]], format="csr"), obs=table.obs)
    twice.var = pd.DataFrame(index=[*GENES, "GENE0", "GENE1", "GENE2"])
    twice.obsm["spatial"] = table.obsm["spatial"]
    section, said = _read(twice, tmp_path, **PLACED)
    found = section.tables["cell_rna"].to_df()
    np.testing.assert_array_equal(found["GENE0"], table.to_df()["GENE0"])
    np.testing.assert_array_equal(found["GENE2"], table.to_df()["GENE2"] + table.to_df()["GENE5"])
    assert "2 genes twice with the same counts ('GENE0', 'GENE1')" in said


# Two statements in one delivery that are never compared.


@pytest.mark.parametrize(("depth", "told"), [(1e4, False), (3e3, True)])
def test_sections_of_logarithms_of_two_depths_are_doubted(tmp_path: Path, say: Say, depth: float, told: bool) -> None:
    for name, of in (("a", 1e4), ("b", depth)):
        _logs(_table(seed=ord(name)), of).write_h5ad(tmp_path / f"{name}.h5ad")
    source = "{{path: ./{0}.h5ad, dissociated: true, values: log}}"
    code, said = _build(say, tmp_path, ", ".join(f"{{name: {n}, sources: [{source.format(n)}]}}" for n in "ab"))
    assert code == 0 and ("sums of expm1 a row of 3,000 in b and 10,000 in a" in said) == told


@pytest.mark.parametrize("shuffled", [False, True])
def test_annotation_of_other_cells_is_doubted_by_its_sums(tmp_path: Path, shuffled: bool) -> None:
    table = _table()
    table.X = sparse.csr_matrix(table.X.multiply(1 + np.arange(N)[:, None] % 9))
    sums = np.asarray(table.X.sum(axis=1)).ravel()
    table.obs["total_counts"] = np.random.default_rng(0).permutation(sums) if shuffled else sums
    assert ("correlate with 'total_counts'" in _read(table, tmp_path, **PLACED)[1]) == shuffled


# Names with a structure, read by a fixed spelling.


def geo_visium(folder: Path) -> Path:
    """A flat folder as GEO packs a Visium sample: its accession before every name, all text packed."""
    rows, columns = np.divmod(np.arange(N), 12)
    columns = 2 * columns + rows % 2
    xy = np.column_stack([100 * columns, 173.2 * rows]) + 500
    barcodes = ["".join(np.random.default_rng(i).choice(list("ACGT"), 16)) + "-1" for i in range(N)]
    place = pd.DataFrame({"b": barcodes, "t": 1, "r": rows, "c": columns, "y": xy[:, 1], "x": xy[:, 0]})
    counts = np.random.default_rng(0).poisson(2.0, (30, N))
    mmwrite(folder / "m.mtx", sparse.csc_matrix(counts))
    features = pd.DataFrame({"id": [f"ENSG{i:011d}" for i in range(30)], "name": GENES, "kind": "Gene Expression"})
    for name, text in {
        "tissue_positions_list.csv": place.to_csv(header=False, index=False),
        "scalefactors_json.json": json.dumps({"spot_diameter_fullres": 110.0, "tissue_hires_scalef": 0.1}),
        "matrix.mtx": (folder / "m.mtx").read_text(),
        "features.tsv": features.to_csv(sep="\t", header=False, index=False),
        "barcodes.tsv": "\n".join(barcodes),
    }.items():
        (folder / f"GSM1234567_S1_{name}.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "m.mtx").unlink()
    return folder


def test_a_sample_as_geo_packs_it_is_read(tmp_path: Path) -> None:
    path = geo_visium(tmp_path)
    assert recognise(path) == "spaceranger"
    table = read(path).tables["patch_rna"]
    assert table.shape == (N, 30) and table.var.loc["GENE3", "gene_id"] == "ENSG00000000003"


def test_two_samples_in_one_folder_are_refused_by_name(tmp_path: Path) -> None:
    path = geo_visium(tmp_path)
    for file in list(path.iterdir()):
        (path / file.name.replace("GSM1234567", "GSM1234568")).write_bytes(file.read_bytes())
    with pytest.raises(ReadError, match=r"2 of them: GSM1234567.*put each sample in a folder of its own"):
        read(path)


# What the user named is dropped silently.


def test_a_value_to_keep_that_no_row_has_is_told(tmp_path: Path) -> None:
    table = _table()
    table.obs["kind"] = np.array(["a", "b"])[np.arange(N) % 2]
    section, said = _read(table, tmp_path, keep={"kind": ["a", "B"]}, **PLACED)
    assert len(section.shapes["cell"]) == N // 2 and "kind: expected all of `keep:`, found no row with 'B'" in said


def test_options_of_counts_are_refused_of_effects(tmp_path: Path) -> None:
    _table().write_h5ad(tmp_path / "t.h5ad")
    for option, value in (("duplicates", "refuse"), ("modality", "protein")):
        with pytest.raises(Exception, match=rf"`values: effect` have no `{option}:`; leave it out"):
            read(tmp_path / "t.h5ad", dissociated=True, values="effect", **{option: value})


# The first of several taken.


def test_of_two_pairs_of_positions_it_is_told_which_was_taken(tmp_path: Path) -> None:
    table = _table()
    whole = table.to_df()
    whole[["x_centroid", "y_centroid"]], whole[["x", "y"]] = table.obsm["spatial"], 5 * table.obsm["spatial"]
    whole.to_csv(tmp_path / "t.csv", index_label="cell_id")
    with doubts_heard() as doubts:
        section = read(tmp_path / "t.csv", **PLACED)
    assert any("positions from x_centroid, y_centroid, and x, y there as well" in one for one in doubts)
    assert section.tables["cell_rna"].n_vars == 30


# Told on the terminal alone.


def test_what_a_reader_takes_for_granted_stands_in_the_store(tmp_path: Path, say: Say) -> None:
    rng = np.random.default_rng(0)
    molecules = pd.DataFrame({"geneID": rng.choice(GENES, 4000), "x": rng.integers(0, 500, 4000)})
    molecules["y"], molecules["MIDCount"] = rng.integers(0, 500, 4000), 1
    molecules.to_csv(tmp_path / "t.gem", sep="\t", index=False)
    code, said = _build(say, tmp_path, "{name: s, sources: [{path: ./t.gem}]}")
    assert code == 0 and "0.5 µm from spot to spot" in said


# Numbers that are names.


def test_donors_that_are_numbers_keep_their_name(tmp_path: Path, say: Say) -> None:
    table = _table()
    table.obs["donor"], table.obs["plate"] = np.repeat([3.0, 4.0], N // 2), 7.0
    table.write_h5ad(tmp_path / "t.h5ad")
    source = "{path: ./t.h5ad, dissociated: true}"
    code, said = _build(
        say, tmp_path, f"{{name: s, sections_by: [plate, donor], donor_by: donor, sources: [{source}]}}"
    )
    assert code == 0, said
    out = json.loads(say("inspect", tmp_path / "g.zarr", "--json")[1])
    assert out["dissociated, no positions"] == ["7-3", "7-4"]
    from aivc_graph.graph.store import read_store

    assert read_store(tmp_path / "g.zarr").obs("section")["donor"].tolist() == ["3", "4"]


def test_cells_of_nineteen_digits_keep_them_all(tmp_path: Path) -> None:
    cells = [1234567890123456789, 1234567890123456790]
    molecules = pd.DataFrame(
        {"geneID": "A", "x": np.arange(60) * 20, "y": 0, "MIDCount": 1, "CellID": np.repeat(cells, 30)}
    )
    molecules.to_csv(tmp_path / "t.gem", sep="\t", index=False)
    section = read(tmp_path / "t.gem", level="cell", diameter_um=10, check=False)
    assert section.shapes["cell"].index.tolist() == list(map(str, cells))


# Errors of libraries that reach the user.


def test_packed_files_are_named_with_what_to_do(tmp_path: Path) -> None:
    _table().write_h5ad(tmp_path / "t.h5ad")
    packed = tmp_path / "GSM1_t.h5ad.gz"
    packed.write_bytes(gzip.compress((tmp_path / "t.h5ad").read_bytes()))
    with pytest.raises(ReadError, match=r"found an HDF5 file, packed; unpack GSM1_t.h5ad.gz, and name what comes out"):
        recognise(packed)
    import tarfile

    with tarfile.open(tmp_path / "GSE1_RAW.tar", "w") as archive:
        archive.add(tmp_path / "t.h5ad", "t.h5ad")
    with pytest.raises(ReadError, match=r"found an archive, packed; unpack GSE1_RAW.tar"):
        recognise(tmp_path / "GSE1_RAW.tar")


def test_sizes_that_a_header_invents_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.gct").write_text("#1.3\n2000000000\t3\t1\t1\nid\tname\ta\tb\tc\nx\tna\t1\t1\t1\ng\tG\t1\t2\t3\n")
    with pytest.raises(ReadError, match=r"expected 2,000,000,002 lines of 5 fields, as its second line says, found 3"):
        read(tmp_path / "t.gct")
    with h5py.File(tmp_path / "t.gef", "w") as file:
        file["geneExp/bin1/expression"] = np.zeros(3, [("x", "u4"), ("z", "u4"), ("count", "u2")])
        file["geneExp/bin1/gene"] = np.zeros(1, [("gene", "S8"), ("offset", "u4"), ("count", "u4")])
    with pytest.raises(ReadError, match=r"expected x, y, count and a gene, offset, count, found fields"):
        read(tmp_path / "t.gef")


def test_recognising_never_raises_whatever_is_damaged(tmp_path: Path) -> None:
    from aivc_graph.io.reading import READERS

    _table().write_h5ad(tmp_path / "t.h5ad")
    data = (tmp_path / "t.h5ad").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(40):
        torn = bytearray(data)
        for place in rng.integers(0, 4096, 6):
            torn[place] = rng.integers(0, 256)
        (tmp_path / "torn.h5ad").write_bytes(torn)
        for name in READERS:
            assert READERS[name].recognises(tmp_path / "torn.h5ad") in (True, False)


@pytest.mark.parametrize("n_byte", [8, 40, 200, 1000, 3000])
def test_torn_files_are_called_so(tmp_path: Path, n_byte: int) -> None:
    table = _table()
    table.write_h5ad(tmp_path / "t.h5ad")
    with h5py.File(tmp_path / "t.h5mu", "w") as file:
        from anndata.io import write_elem

        write_elem(file, "mod/rna", table)
        write_elem(file, "obs", table.obs)
    for name in ("t.h5ad", "t.h5mu"):
        data = bytearray((tmp_path / name).read_bytes())
        data[n_byte : n_byte + 64] = b"\xff" * 64
        (tmp_path / f"torn_{name}").write_bytes(data)
        kind = name.rpartition(".")[2]
        try:
            section = read(tmp_path / f"torn_{name}", reader=kind, dissociated=True)
            np.testing.assert_array_equal(section.tables["cell_rna"].X.toarray(), table.X.toarray())
        except ReadError as error:
            assert f"torn_{name}" in str(error)


@pytest.mark.parametrize("where", ["X/indices", "X/indptr"])
def test_sparse_matrices_that_point_outside_of_themselves_are_refused(tmp_path: Path, where: str) -> None:
    from aivc_graph.io.h5ad_file import read_anndata

    _table().write_h5ad(tmp_path / "t.h5ad")
    with h5py.File(tmp_path / "t.h5ad", "r+") as file:
        file[where][5] = 2**30
    for reading in (lambda path: read(path, **PLACED), read_anndata):
        with pytest.raises(ReadError, match=r"t.h5ad · X: a damaged sparse matrix"):
            reading(tmp_path / "t.h5ad")


# Advice that cannot be followed.


def test_what_an_error_advises_can_be_followed(tmp_path: Path) -> None:
    """Each option that a message names is put in, until the file is read; no more messages than missing facts."""
    table = _table()
    table.layers["counts"], table.X = table.X.copy(), np.log1p(table.X.toarray())
    asked: dict[str, Any] = {}
    for advised, given in (("`level:`", {"level": "cell"}), ("`layer:`", {"layer": "counts"})):
        with pytest.raises(ReadError) as caught:
            _read(table, tmp_path, **asked)
        said = str(caught.value)
        assert advised in said
        if "level" in given:  # what a row is, its scale and its size are one round
            assert "`um_per_unit:`" in said and "`diameter_um:`" in said
            given = PLACED
        asked |= given
    section, _ = _read(table, tmp_path, **asked)
    assert section["cell_rna"].X.sum() == table.layers["counts"].sum()


def test_the_answer_of_inspect_names_all_that_a_build_asks(tmp_path: Path, say: Say) -> None:
    table = _table()
    table.layers["raw_counts"], table.X = table.X.copy(), table.X * 0.5
    table.write_h5ad(tmp_path / "t.h5ad")
    needs = json.loads(say("inspect", tmp_path / "t.h5ad", "--json")[1])["needs"]
    assert [one.partition(":")[0] for one in needs] == ["level", "um_per_unit", "diameter_um", "counts"]
    assert "not whole" in needs[-1] and "(layers: raw_counts)" in needs[-1]
    options = [f"--set={one}" for one in ("level=cell", "um_per_unit=1", "diameter_um=8", "layer=raw_counts")]
    assert json.loads(say("inspect", tmp_path / "t.h5ad", "--json", *options)[1])["kind"] == "section"


# What goes into a spreadsheet, and comes out of one.


def test_a_table_as_half_of_europe_saves_it_is_read_as_its_twin(tmp_path: Path, say: Say) -> None:
    table = _table()
    frame = table.to_df().assign(x=table.obsm["spatial"][:, 0] + 0.5, y=table.obsm["spatial"][:, 1], area=50.25)
    frame.rename_axis("barcode").to_csv(tmp_path / "plain.csv")
    folder = tmp_path / "Daten für Köln"
    folder.mkdir()
    frame.rename_axis("barcode").to_csv(folder / "Zellen (neu) ü.csv", sep=";", decimal=",", encoding="utf-8-sig")
    assert recognise(folder / "Zellen (neu) ü.csv") == recognise(tmp_path / "plain.csv") == "plain_table"
    asked = {"level": "cell", "um_per_unit": 1.0, "area": "area"}
    one, two = read(tmp_path / "plain.csv", **asked), read(folder / "Zellen (neu) ü.csv", **asked)
    pd.testing.assert_frame_equal(one["cell_rna"].to_df(), two["cell_rna"].to_df())
    assert one.shapes["cell"].geometry.equals(two.shapes["cell"].geometry)
    found = json.loads(say("init", folder, "--json")[1])
    assert found["next"] == f"aivc build {folder / 'aivc.yaml'}" and "Zellen (neu) ü.csv" in found["found"][0]


def test_files_that_no_reader_knows_are_named_not_passed_over(tmp_path: Path, say: Say) -> None:
    _table().write_h5ad(tmp_path / "t.h5ad")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "doses.csv").write_text("a,b\n1,2\n")
    unclear = json.loads(say("init", tmp_path, "--json")[1])["unclear"]
    assert [one for one in unclear if "no reader" in one] == ["doses.csv: no reader recognises it, so it is left out"]
    (tmp_path / "t.h5ad").unlink()
    (tmp_path / "aivc.yaml").unlink()
    assert "nothing that a reader recognises, in doses.csv and all else" in say("init", tmp_path)[2]


# Two statements never compared: what is called counts, and what their sums say.


@pytest.mark.parametrize("ending", ["h5ad", "csv"])
def test_normalised_values_that_were_rounded_are_doubted_in_every_reader(tmp_path: Path, ending: str) -> None:
    table = _table()
    x = table.X.toarray()
    table.X = np.round(x / x.sum(axis=1, keepdims=True) * 1e4).astype(np.float32)
    if ending == "h5ad":
        _, said = _read(table, tmp_path, **PLACED)
    else:
        place = pd.DataFrame(table.obsm["spatial"], columns=["x", "y"], index=table.obs_names)
        table.to_df().join(place).rename_axis("barcode").to_csv(tmp_path / "t.csv")
        with doubts_heard() as doubts:
            read(tmp_path / "t.csv", **PLACED)
        said = "\n".join(doubts)
    assert "counts, whose sums differ, found sums of 10,000 in each of 144 rows" in said
    table.X = sparse.csr_matrix(x)
    assert "whose sums differ" not in _read(table, tmp_path, **PLACED)[1]
