"""`aivc init` writes a configuration that builds, from whatever lies in a folder, and says what it could not tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

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
