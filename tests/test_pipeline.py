"""The whole way by the command line: simulate → build → train → query → export, on a tiny section."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from skimage.io import imsave

from aivc_graph import cli
from aivc_graph.config import load_config
from aivc_graph.graph.store import read_store
from aivc_graph.pipeline.demo import demo
from aivc_graph.simulate.programmes import GENES
from aivc_graph.simulate.simulate import simulate

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
CONFIG = """\
task:
  name: tiny
  split: {kind: everything}
  sections:
    - name: s1
      donor: d1
      sources:
        - {path: tissue/D1_untreated/spaceranger, reader: spaceranger, slide: tissue/D1_untreated/slide.ome.tif}
        - {path: tissue/D1_untreated/xenium, reader: xenium}
  features: {}
model: {latent: 4, rings: [6, 12]}
training: {epochs: 2, device: cpu}
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny simulated tissue, its configuration, a graph store and a trained run."""
    folder = tmp_path_factory.mktemp("tiny")
    simulate("tiny", folder / "tissue")
    (folder / "tiny.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIVC_DATA", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert cli.main(["build", str(folder / "tiny.yaml"), "--out", str(folder / "graph.zarr"), "--quiet"]) == 0
        given = ["train", str(folder / "tiny.yaml"), "--graph", str(folder / "graph.zarr")]
        assert cli.main([*given, "--out", str(folder / "run"), "--set", "training.epochs=3", "--quiet"]) == 0
    return folder


@pytest.fixture(autouse=True)
def where_data_lies(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = request.getfixturevalue("made")
    monkeypatch.setenv("AIVC_DATA", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a runner of one command line; it gives exit code, output and errors."""

    def say(*given: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(part) for part in given])
        return code, *capsys.readouterr()

    return say


def test_sound_tissue_raises_no_alarm(made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = say("build", made / "tiny.yaml", "--out", tmp_path / "graph.zarr", "--quiet")
    assert code == 0 and err == ""


def test_settings_of_the_command_line_reach_the_run(made: Path) -> None:
    config = load_config(made / "run/config.yaml")
    assert config.training.epochs == 3 and config.model.latent == 4
    assert len((made / "run/metrics.jsonl").read_text().splitlines()) == 4


def test_every_cell_and_spot_that_was_delivered_is_in_the_graph(made: Path) -> None:
    graph = read_store(made / "graph.zarr")
    cells = pd.read_parquet(made / "tissue/D1_untreated/xenium/cells.parquet")
    obs = graph.obs("cell").set_index("barcode")
    assert set(cells["cell_id"]) == set(obs.index)
    place = pd.DataFrame(graph["cell"].pos.numpy(), index=obs.index).loc[cells["cell_id"]]
    np.testing.assert_allclose(place, cells[["x_centroid", "y_centroid"]], atol=1e-2)


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
    code, _, err = say("query", made / "run", *asked, "--out", tmp_path / "answer.h5ad")
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


@pytest.mark.parametrize("fault", ["run.json", "training.json"])
def test_inspect_names_what_is_damaged_in_a_run(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]], fault: str
) -> None:
    run = Path(shutil.copytree(made / "run", tmp_path / "run"))
    (run / fault).write_text("{")
    code, _, err = say("inspect", run)
    assert code == 2 and f"{fault}: unreadable" in err


@pytest.mark.parametrize("to", ["h5ad", "spatialdata", "geojson", "graphml"])
def test_exports_hold_the_niches(made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]], to: str) -> None:
    out = tmp_path / {"h5ad": "run7.cell.h5ad", "spatialdata": "out.zarr"}.get(to, f"out.{to}")
    assert say("export", made / "run", "--to", to, "--out", out)[0] == 0
    assert out.exists()
    if to == "h5ad":
        assert "niche" in ad.read_h5ad(out).obs
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


def test_a_truncated_slide_is_said_once(made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    whole = (made / "tissue/D1_untreated/slide.ome.tif").read_bytes()
    (tmp_path / "torn.ome.tif").write_bytes(whole[: len(whole) // 2])
    code, _, err = say("inspect", tmp_path / "torn.ome.tif")
    assert code == 2 and "truncated; copy it again" in err and "TiffTag" not in err and "TiffFile" not in err


def test_without_a_writable_cache_tissue_is_built_and_it_is_said_once(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    build = ("build", made / "tiny.yaml", "--out", tmp_path / "graph.zarr", "--quiet")
    (code, _, err), (again, _, silent) = say(*build), say(*build)
    assert code == again == 0 and silent == ""
    assert err.count("tiles are not remembered (XDG_CACHE_HOME names another place)") == 1
    assert f"{tmp_path}/file/aivc-graph: Not a directory" in err


def test_a_picture_without_a_pixel_size_is_described(tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    imsave(tmp_path / "he.jpg", np.full((60, 80, 3), 200, np.uint8), check_contrast=False)
    code, said, err = say("inspect", tmp_path / "he.jpg")
    assert code == 0 and err == "" and "kind: slide" in said and "y: 60" in said and "x: 80" in said and "c: 3" in said
    assert "found none in the file; give it in the YAML: {path: he.jpg, mpp: 0.5}" in said
    (tmp_path / "he.jpg").write_bytes((tmp_path / "he.jpg").read_bytes()[:10])
    code, _, err = say("inspect", tmp_path / "he.jpg")
    assert code == 2 and "the file is damaged: copy it again" in err


def test_inspect_knows_what_it_looks_at(made: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    n_cells = len(pd.read_parquet(made / "tissue/D1_untreated/xenium/cells.parquet"))
    found = {
        name: json.loads(say("inspect", made / path, "--json")[1])
        for name, path in {
            "slide": "tissue/D1_untreated/slide.ome.tif",
            "cells": "tissue/D1_untreated/xenium",
            "spots": "tissue/D1_untreated/spaceranger",
            "graph": "graph.zarr",
            "run": "run",
        }.items()
    }
    assert (found["graph"]["kind"], found["run"]["kind"]) == ("graph", "run")
    assert found["graph"]["nodes"]["cell"] == n_cells and found["graph"]["anchors"]
    assert found["run"]["task"] == "tiny" and found["run"]["validation_loss"] > 0
    assert found["cells"]["faults"] == [] and found["spots"]["faults"] == []
    assert str(n_cells) in json.dumps(found["cells"])
    code, _, err = say("inspect", made / "tiny.yaml")
    assert code == 2 and "build it: aivc build" in err


def test_a_second_build_replaces_the_first(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    out = tmp_path / "graph.zarr"
    build = ("build", made / "tiny.yaml", "--out", out)
    assert say(*build)[0] == 0
    before = read_store(out)
    assert say(*build, "--set", "graph.n_genes=20")[0] == 0
    after = read_store(out)
    assert before["gene"].num_nodes == len(GENES) and 20 <= after["gene"].num_nodes <= 40  # 20 a level
    code, _, _ = say(*build, "--set", "graph.n_genes=90", "--set", "task.sections[0].sources[0].path=nowhere")
    assert code == 2 and read_store(out)["gene"].num_nodes == after["gene"].num_nodes
    assert [p.name for p in tmp_path.iterdir() if p.name != "graph.zarr"] == []


def test_the_slide_under_cells_alone_is_described_window_by_window(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    config = tmp_path / "cells.yaml"
    slide = f"{{path: {made}/tissue/D1_untreated/slide.ome.tif, reader: slide}}"
    cells = f"{{path: {made}/tissue/D1_untreated/xenium, reader: xenium}}"
    split = "{kind: by_block, validation_share: 0.3, test_share: 0.1, block_um: 150, buffer_um: 0}"
    sections = f"sections: [{{name: s1, donor: d1, sources: [{slide}, {cells}]}}]"
    model = "model: {latent: 4, rings: [6, 12]}\ntraining: {epochs: 1, device: cpu}\n"
    config.write_text(f"task:\n  features: {{}}\n  split: {split}\n  {sections}\n{model}graph: {{patch_um: 80}}\n")
    run = tmp_path / "run"
    code, _, err = say("train", config, "--out", run)
    assert code == 0, err
    graph = read_store(run / "graph.zarr")
    assert graph["patch"].histology_mask.float().mean() > 0.9 and graph["patch"].histology.shape[1] > 10
    plain = ("build", config, "--out", tmp_path / "plain.zarr", "--set", "task.features=null")
    assert say(*plain)[0] == 0
    bare = read_store(tmp_path / "plain.zarr")
    assert list(graph.obs("patch").index) == list(bare.obs("patch").index)
    assert any(name.endswith("_validation") for name in graph.obs("patch").index)
    for relation in (("cell", "within", "patch"), ("patch", "near", "patch")):
        np.testing.assert_array_equal(graph[relation].adj_t.to_dense(), bare[relation].adj_t.to_dense())
    assert say("query", run, "niches", "--k", 2, "--level", "patch")[0] == 0


def test_a_run_killed_half_way_is_trained_again(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    run = tmp_path / "run"
    given = ["train", made / "tiny.yaml", "--graph", made / "graph.zarr", "--out", run, "--set", "training.epochs=40"]
    given += ["--set", "training.patience=40"]
    child = subprocess.Popen([sys.executable, "-m", "aivc_graph.cli", *map(str, given), "--quiet"])
    last, deadline = run / "checkpoints/last.safetensors", time.time() + 60
    while not last.exists() and time.time() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert last.exists() and not (run / "run.json").exists(), "killed too late to test anything"
    code, _, err = say("query", run, "niches")
    assert code == 2 and "no run.json" in err
    resumed = Path(shutil.copytree(run, tmp_path / "resumed"))
    assert say(*given)[0] == 0
    assert say(*given[:5], resumed, *given[6:], "--resume")[0] == 0
    assert (run / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
    assert say("query", resumed, "niches")[0] == 0


def test_other_graph_settings_build_another_graph_and_other_model_settings_are_not_resumed(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    run = tmp_path / "run"
    train = ("train", made / "tiny.yaml", "--out", run, "--set", "training.epochs=1")
    assert say(*train)[0] == 0
    n_genes = read_store(run / "graph.zarr")["gene"].num_nodes
    code, _, err = say(*train, "--resume", "--set", "model.latent=6")
    assert code == 2 and "other settings: model.latent 4 → 6" in err
    code, _, err = say(*train, "--set", "graph.n_genes=10")
    assert code == 0
    assert read_store(run / "graph.zarr")["gene"].num_nodes < n_genes
    assert say("query", run, "niches", "--k", 2)[0] == 0
    inode = (run / "graph.zarr").stat().st_ino
    code, _, err = say(*train, "--set", "graph.n_genes=10", "--quiet")
    assert code == 0 and "building anew" not in err and (run / "graph.zarr").stat().st_ino == inode


def write_cells(path: Path, counts: np.ndarray) -> Path:
    """Write an AnnData of cells 20 µm apart and the configuration that trains on it."""
    data = ad.AnnData(counts.astype(np.float32), obsm={"spatial": np.arange(len(counts))[:, None] * [20.0, 0.0]})
    data.write_h5ad(path.with_suffix(".h5ad"))
    source = f"{{path: {path.with_suffix('.h5ad')}, reader: h5ad, level: cell, um_per_unit: 1, diameter_um: 10}}"
    sections = f"task: {{name: few, sections: [{{name: s1, sources: [{source}]}}]}}\n"
    path.write_text(f"{sections}model: {{latent: 4, rings: [6, 12]}}\ntraining: {{epochs: 1, device: cpu}}\n")
    return path


def test_the_graph_of_a_finished_run_is_not_built_over(
    tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    config = write_cells(tmp_path / "few.yaml", np.random.default_rng(0).poisson(3.0, (30, 20)) + 1)
    run, apart = tmp_path / "run", tmp_path / "apart.zarr"
    assert say("train", config, "--out", run)[0] == 0
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    code, _, err = say("build", config, "--out", run / "graph.zarr", "--set", "graph.n_genes=9")
    assert code == 2 and "graph.zarr: expected a place of its own for a new graph, found the graph of a finished" in err
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    assert say("build", config, "--out", apart)[0] == 0
    assert say("train", config, "--graph", apart, "--out", run)[0] == 0
    assert say("build", config, "--out", apart)[0] == 0 and say("query", run, "niches")[0] == 0  # the same graph again
    assert say("build", config, "--out", apart, "--set", "graph.patch_um=50")[0] == 0
    code, _, err = say("query", run, "niches")
    assert code == 2 and "apart.zarr: another graph than the model was trained on" in err


@pytest.mark.parametrize("n_cells", [1, 2, 5])
def test_a_tissue_of_few_cells_is_answered(
    tmp_path: Path, say: Callable[..., tuple[int, str, str]], n_cells: int
) -> None:
    config = write_cells(tmp_path / "few.yaml", np.random.default_rng(0).poisson(3.0, (n_cells, 20)) + 1)
    assert say("train", config, "--out", tmp_path / "run")[0] == 0
    for asked in (["niches"], ["expression", "--at", "niche"], ["neighbours"], ["similar", "--to-niche", 1]):
        assert say("query", tmp_path / "run", *asked)[0] == 0
    assert say("query", tmp_path / "run", "niches", "--out", tmp_path / "n.csv")[0] == 0
    assert (pd.read_csv(tmp_path / "n.csv")["niche"] == 1).all()


def test_a_table_of_zeros_is_refused(tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = say("build", write_cells(tmp_path / "no.yaml", np.zeros((9, 20))), "--out", tmp_path / "g.zarr")
    assert code == 2 and "cell · rna: expected counts, found zeros only; check which matrix" in err


def test_one_command_builds_what_training_needs(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    code, said, _ = say("train", made / "tiny.yaml", "--out", tmp_path / "run", "--set", "training.epochs=0")
    assert code == 0 and said.strip() == str(tmp_path / "run")
    assert say("query", tmp_path / "run", "niches", "--k", 2)[0] == 0


TABLES = ("niches", "markers", "expression", "contacts")
PICTURES = ("niches", "contacts", "training")


def test_a_study_of_ones_own_is_neither_trained_into_nor_replaced(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "tissue/truth").mkdir(parents=True)
    (tmp_path / "tissue/config.yaml").write_text("mine")
    code, _, err = say("demo", "--out", tmp_path)
    assert code == 2 and "already holds something" in err
    code, _, err = say("train", made / "tiny.yaml", "--graph", made / "graph.zarr", "--out", tmp_path / "tissue")
    assert code == 2 and "a simulated study" in err
    assert (tmp_path / "tissue/config.yaml").read_text() == "mine"


def test_the_demo_gives_the_same_bytes_again_and_replaces_an_older_one(
    tiny_demo: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "aivc_graph.pipeline.demo")
    (tmp_path / "demo/tissue/truth").mkdir(parents=True)
    (tmp_path / "demo/checkpoints").mkdir()
    (tmp_path / "demo/tissue/old").write_text("of an earlier demo")
    out = demo(tmp_path / "demo", device="cpu", preset="tiny")
    assert not (out / "tissue/old").exists()
    files = [
        *(f"{name}.csv" for name in TABLES),
        *(f"{name}.png" for name in PICTURES),
        "evaluation.json",
        "report.html",
    ]
    assert [name for name in files if (out / name).read_bytes() != (tiny_demo / name).read_bytes()] == []
    stages = [r.getMessage().split(":")[0] for r in caplog.records if r.name == "aivc_graph.pipeline.demo"]
    assert stages == ["simulate", "inspect", "build", "train", "evaluate", "query", "report"]
    truth = [pd.read_parquet(file) for file in out.glob("tissue/truth/*/cells.parquet")]
    assert len(pd.read_csv(out / "niches.csv")) == sum(map(len, truth))
    assert all(len(pd.read_csv(out / f"{name}.csv")) for name in ("expression", "contacts"))
    assert "log2_ratio" in pd.read_csv(out / "markers.csv")  # none where so little tissue is of one niche
    assert all(np.ptp(imread(out / f"{name}.png")[..., :3]) > 0.5 for name in PICTURES)
    assert "Found and true" in (out / "report.html").read_text()


def test_the_demos_configuration_is_the_one_shipped(made: Path) -> None:
    shipped = {section.name: section for section in load_config(CONFIGS / "demo.yaml").task.sections}
    written = {section.name: section for section in load_config(made / "tissue/config.yaml").task.sections}
    assert len(shipped) == 3 and set(shipped) < set(written)
    for name, section in shipped.items():
        assert section.sources == written[name].sources and section.donor == written[name].donor
        assert [part.key for part in section.interventions] == [part.key for part in written[name].interventions]
