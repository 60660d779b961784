"""`aivc init` writes a configuration that builds, from whatever lies in a folder, and says what it could not tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from aivc_graph.config import load_config
from aivc_graph.errors import ConfigError, ReadError
from aivc_graph.graph.store import read_store
from aivc_graph.pipeline.build import build
from aivc_graph.pipeline.init import init
from aivc_graph.pipeline.look import look
from aivc_graph.simulate.simulate import simulate


def cells(n: int = 120, seed: int = 0, *, positions: bool = True, spread: float = 200.0, **obs: object) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    found = ad.AnnData(rng.poisson(3.0, (n, 40)).astype(np.float32))
    found.var_names = [f"GENE{i}" for i in range(40)]
    found.obs_names = [f"c{i}" for i in range(n)]
    found.obs = pd.DataFrame(obs, index=found.obs_names)
    if positions:
        found.obsm["spatial"] = rng.random((n, 2)) * spread
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    simulate("tiny", folder / "tissue")
    return folder / "tissue"


def test_a_study_as_vendors_deliver_it_builds(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "aivc.yaml"
    found = init(study / "D1_untreated", out)
    assert found["config"] == str(out) and len(found["found"]) == 1
    assert any("donor" in text for text in found["unclear"])
    graph = read_store(build(load_config(out), tmp_path / "graph.zarr"))
    assert graph.levels == ["cell", "patch", "region"] and graph.modalities("patch") == ["histology", "rna"]
    assert "# donor:" in out.read_text() and "split: {kind: everything}" in out.read_text()


def test_folders_of_sections_are_told_apart(study: Path) -> None:
    sections = {one.name: [source.reader for source in one.sources] for one in look(study)[0]}
    assert {"D1_untreated", "D2_untreated"} <= set(sections)
    assert sections["D1_untreated"] == ["spaceranger", "xenium"]
    assert not any(reader == "slide" for readers in sections.values() for reader in readers)


def test_a_folder_that_is_itself_one_delivery_gives_its_name(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = study / "D1_untreated"
    assert [one.name for one in look(sample / "xenium")[0]] == ["xenium"]
    assert [one.name for one in look(sample / "spaceranger" / "outs")[0]] == ["spaceranger"]
    for there, given in ((sample, "xenium"), (sample / "xenium", ".")):
        monkeypatch.chdir(there)
        assert [one.name for one in look(Path(given))[0]] == ["xenium"]


def test_sections_donors_labels_and_traits_come_from_columns(tmp_path: Path) -> None:
    donor = np.repeat(["P1", "P2", "P3", "P4"], 60)
    many = cells(
        240,
        patient=donor,
        library_id=[f"{d}-a" for d in donor],
        stage=np.where(np.isin(donor, ["P1", "P2"]), "early", "late"),
        cell_type=np.tile(["T", "B"], 120),
        total_counts=np.arange(240),
    )
    many.write_h5ad(tmp_path / "all.h5ad")
    init(tmp_path)
    config = load_config(tmp_path / "aivc.yaml")
    (section,) = config.task.sections
    assert (section.sections_by, section.donor_by, section.traits_by) == (("library_id",), "patient", ("stage",))
    assert config.task.split == {"kind": "by_group", "key": "donor", "test": ["P4"], "validation": ["P3"]}
    assert section.sources[0].options["label"] == "cell_type"
    graph = read_store(build(config, tmp_path / "graph.zarr"))
    assert graph.obs("section")["stage"].tolist() == ["early", "early", "late", "late"]
    assert int(graph.in_split("cell", "test").sum()) == 60


def test_cells_without_positions_are_dissociated(tmp_path: Path) -> None:
    cells(positions=False, perturbation=np.tile(["ctrl", "KLF1"], 60)).write_h5ad(tmp_path / "screen.h5ad")
    found = init(tmp_path)
    source = load_config(tmp_path / "aivc.yaml").task.sections[0].sources[0]
    assert source.options["dissociated"] is True
    assert any("perturbation" in text and "interventions" in text for text in found["unclear"])
    assert "graph:" not in (tmp_path / "aivc.yaml").read_text()


def test_counts_in_a_layer_are_found(tmp_path: Path) -> None:
    table = cells()
    table.layers["counts"] = table.X.copy()
    table.X = np.log1p(table.X)
    table.write_h5ad(tmp_path / "a.h5ad")
    init(tmp_path)
    assert load_config(tmp_path / "aivc.yaml").task.sections[0].sources[0].options["layer"] == "counts"


def test_a_unit_that_cannot_be_told_is_left_to_the_user(tmp_path: Path) -> None:
    cells(spread=200_000.0).write_h5ad(tmp_path / "pixels.h5ad")
    found = init(tmp_path)
    assert any("microns per unit" in text and "units apart" in text for text in found["unclear"])
    text = (tmp_path / "aivc.yaml").read_text()
    assert "sections: []" in text and "    # - name: pixels" in text
    assert found["next"].startswith("settle what is marked CHECK in aivc.yaml and take the # away")


def test_a_file_that_cannot_be_read_is_commented_out_and_the_others_build(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    cells().write_h5ad(tmp_path / "a" / "good.h5ad")
    bad = cells()
    bad.X = bad.X - 5
    bad.write_h5ad(tmp_path / "a" / "bad.h5ad")
    found = init(tmp_path)
    assert any(text.startswith("bad: ") and "commented out" in text for text in found["unclear"])
    config = load_config(tmp_path / "aivc.yaml")
    assert [section.name for section in config.task.sections] == ["good"]
    assert read_store(build(config, tmp_path / "graph.zarr"))["cell"].num_nodes == 120


def test_nothing_there_and_a_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ReadError, match="nothing that a reader recognises"):
        init(tmp_path)
    with pytest.raises(ReadError, match="no such file or folder"):
        init(tmp_path / "absent")
    (tmp_path / "aivc.yaml").write_text("kept")
    with pytest.raises(ConfigError, match="there already; name another by --out"):
        init(tmp_path)
    assert (tmp_path / "aivc.yaml").read_text() == "kept"


def test_names_with_yaml_in_them_stay_names(tmp_path: Path) -> None:
    folder = tmp_path / "no: [1"
    folder.mkdir()
    cells().write_h5ad(folder / "yes #2.h5ad")
    init(folder)
    (section,) = load_config(folder / "aivc.yaml").task.sections
    assert section.name == "yes #2" and section.sources[0].path == folder / "yes #2.h5ad"


def test_the_verb_prints_what_it_found(tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    cells().write_h5ad(tmp_path / "mine.h5ad")
    code, out, _ = say("init", tmp_path, "--json", "--quiet")
    found = json.loads(out)
    assert code == 0 and found["found"] == ["mine: mine.h5ad (h5ad)"] and found["next"].startswith("aivc build ")


def counts_by_gene(folder: Path, n: int = 60, cells: list[str] | None = None) -> list[str]:
    """Write a table of 40 genes (rows) and `n` cells (columns), as R writes a matrix; return the cells."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = cells or [f"AAC-{i}" for i in range(n)]
    counts = np.random.default_rng(0).poisson(2.0, (40, len(cells)))
    pd.DataFrame(counts, index=[f"GENE{i}" for i in range(40)], columns=cells).to_csv(folder / "counts.csv")
    return cells


def test_a_table_of_genes_by_cells_takes_its_places_and_its_types_from_what_lies_beside(tmp_path: Path) -> None:
    spots = counts_by_gene(tmp_path / "array")
    grid = np.arange(60)
    places = pd.DataFrame({"xcoord": grid % 10 * 30.0, "ycoord": grid // 10 * 30.0}, index=spots)
    places.to_csv(tmp_path / "array" / "coords.csv")
    pd.DataFrame({"x": grid}, index=spots).to_csv(tmp_path / "array" / "nUMI.csv")
    cells = counts_by_gene(tmp_path / "reference")
    pd.DataFrame({"x": ["Astro", "Oligo"] * 30}, index=cells).to_csv(tmp_path / "reference" / "cell_types.csv")
    found, passed = look(tmp_path)
    of = {one.name: one.sources[0].options for one in found}
    assert of["array"]["positions"].name == "coords.csv" and "dissociated" not in of["array"]
    assert of["reference"]["positions"].name == "cell_types.csv" and of["reference"]["dissociated"]
    assert of["reference"]["label"] == "x" and of["array"]["transpose"] and of["reference"]["transpose"]
    assert of["array"]["metadata"].name == "nUMI.csv" and not passed
    out = tmp_path / "aivc.yaml"
    init(tmp_path, out)
    graph = read_store(build(load_config(out), tmp_path / "graph.zarr"))
    assert graph["cell"].num_nodes == 120 and graph.modalities("cell") == ["rna"]


def test_a_table_whose_rows_are_others_is_not_its_annotation(tmp_path: Path) -> None:
    counts_by_gene(tmp_path, cells=[str(i) for i in range(60)])
    pd.DataFrame({"kind": ["a", "b"] * 40}, index=range(80)).to_csv(tmp_path / "of_others.csv")
    genes = [f"GENE{i % 40}" for i in range(200)]
    pd.DataFrame({"x": range(200), "y": range(200)}, index=genes).to_csv(tmp_path / "molecules.csv")
    with pytest.raises(ReadError, match=r"counts\.csv"):
        look(tmp_path)


def test_a_sparse_matrix_takes_its_names_from_tables_of_its_length(tmp_path: Path) -> None:
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(2.0, (40, 60)))
    sparse.save_npz(tmp_path / "counts.npz", counts)
    found, _ = look(tmp_path)
    assert not found[0].read and "features: Field required" in found[0].unclear[0]
    (tmp_path / "genes.txt").write_text("".join(f"GENE{i}\n" for i in range(40)))
    pd.DataFrame({"cell": [f"c{i}" for i in range(60)], "kind": "a"}).to_csv(tmp_path / "meta.csv", index=False)
    found, passed = look(tmp_path)
    options = found[0].sources[0].options
    assert found[0].read and options["transpose"] and options["features"].name == "genes.txt"
    assert options["cells"].name == "meta.csv" and not passed


@pytest.mark.parametrize(
    ("change", "kind"),
    [(lambda x: np.log1p(x), "log"), (lambda x: x * 40.5, "intensity"), (lambda x: np.log1p(x) - 1, "effect")],
)
def test_values_that_are_no_counts_are_told_by_their_content(
    change: Callable[[np.ndarray], np.ndarray], kind: str, tmp_path: Path
) -> None:
    found = cells(positions=False)
    found.X = change(found.X)
    found.write_h5ad(tmp_path / "table.h5ad")
    (one,), _ = look(tmp_path)
    assert one.read and one.sources[0].options["values"] == kind


def test_a_few_rows_that_stand_twice_beside_are_told(tmp_path: Path) -> None:
    spots = counts_by_gene(tmp_path)
    places = pd.DataFrame({"x": np.arange(60) % 10 * 30.0, "y": np.arange(60) // 10 * 30.0}, index=spots)
    pd.concat([places, places[:2]]).to_csv(tmp_path / "places.csv")
    (found,), passed = look(tmp_path)
    assert not found.read and not passed
    assert any("2 duplicate barcodes, first 'AAC-0'" in one for one in found.unclear)
    assert any("whether a row is a cell or a capture spot" in one for one in found.unclear)


def test_labels_may_be_missing_of_some_cells(tmp_path: Path) -> None:
    cells = counts_by_gene(tmp_path)
    labels = pd.DataFrame({"cell_type": ["A", "B", None] * 20}, index=cells)
    labels.to_csv(tmp_path / "types.csv")
    assert look(tmp_path)[0][0].sources[0].options["label"] == "cell_type"
    labels.rename(columns={"cell_type": "x"}).to_csv(tmp_path / "types.csv")
    assert look(tmp_path)[0][0].sources[0].options["label"] == "x"


@pytest.mark.parametrize(("tissue", "split"), [({}, "everything"), ({"donor": ["P1", "P2"] * 60}, "by_group")])
def test_donors_of_a_reference_are_not_held_out(tmp_path: Path, tissue: dict[str, list[str]], split: str) -> None:
    cells(**tissue).write_h5ad(tmp_path / "tissue.h5ad")
    cells(seed=1, positions=False, donor=["R1", "R2"] * 60, cell_type=["A", "B", "A"] * 40).write_h5ad(
        tmp_path / "z.h5ad"
    )
    told = init(tmp_path)
    config = load_config(Path(told["config"]))
    assert config.task.split["kind"] == split
    assert split == "everything" or "test: [P2]" in Path(told["config"]).read_text(encoding="utf-8")
    assert any("which donor tissue is from" in one for one in told["unclear"]) == (not tissue)
    build(config, tmp_path / "graph.zarr")
