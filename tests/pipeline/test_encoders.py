"""The walks of `docs/encoders.md`, taken with the YAML that is printed there; and what a configuration may ask."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from aivc_graph.config import dump_config, load_config
from aivc_graph.graph.store import read_store, store_facts
from aivc_graph.io.embeddings import EmbeddingTable
from aivc_graph.modalities.encoder import ExportedEncoder
from aivc_graph.modalities.histology_features import HistologyFeatures
from aivc_graph.pipeline.build import read_section
from aivc_graph.tissue.frame import affine_of, positions_um
from tests.modalities.encoders import WIDTH, script

Say = Callable[..., tuple[int, str, str]]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "encoders.md"
WALKS = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.S)
SMALL = ("--set", "training.epochs=1", "--set", "model.latent=4", "--set", "training.device=cpu", "--quiet")
pytestmark = pytest.mark.usefixtures("where_data_lies")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Return a folder as the page has it: a delivery and its slide."""
    for name in ("spaceranger", "slide.ome.tif"):
        (tmp_path / name).symlink_to(made / "tissue/D1_untreated" / name)
    return tmp_path


def walked(say: Say, folder: Path, walk: int) -> Path:
    """Train with a walk's YAML; return the run."""
    (folder / "walk.yaml").write_text(WALKS[walk])
    code, _, err = say("train", folder / "walk.yaml", "--out", folder / "run", *SMALL)
    assert code == 0, err
    return folder / "run"


def test_an_encoder_describes_the_tiles_of_a_run(folder: Path, say: Say) -> None:
    path = script(folder)
    run = walked(say, folder, 0)
    patch = read_store(run / "graph.zarr")["patch"]
    assert patch.histology_names == [f"embedding_{i}" for i in range(WIDTH)]
    assert patch.histology_mask.float().mean() > 0.9 and patch.histology.std(dim=0).min() > 0
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert store_facts(run / "graph.zarr")["provenance"]["inputs"]["features/encoder.pt"] == digest
    code, said, err = say("query", run, "niches", "--k", 2, "--on", folder / "walk.yaml", "--out", folder / "n.csv")
    assert code == 0, err + said


def test_tiles_of_clam_are_taken_by_place(folder: Path, say: Say) -> None:
    (folder / "walk.yaml").write_text(WALKS[1])
    section = read_section(load_config(folder / "walk.yaml").task.sections[0])
    to_slide = np.linalg.inv(affine_of(section, "slide"))
    pixels = np.column_stack([positions_um(section, "patch"), np.ones(len(section.shapes["patch"]))]) @ to_slide.T
    (folder / "clam").mkdir()
    values = np.random.default_rng(0).normal(size=(len(pixels), 4)).astype(np.float32)
    order = np.random.default_rng(1).permutation(len(pixels))
    with h5py.File(folder / "clam/s1.h5", "w") as file:
        file["features"], file["coords"] = values[order], np.rint(pixels[order, :2] - 32).astype(int)
    graph = read_store(walked(say, folder, 1) / "graph.zarr")
    barcode = graph.obs("patch")["barcode"].to_numpy()
    place = {name: row for row, name in enumerate(section.shapes["patch"].index)}
    np.testing.assert_array_equal(graph["patch"].histology.numpy(), values[[place[name] for name in barcode]])


def test_embeddings_of_hest_are_joined_by_barcode_and_others_are_unmeasured(folder: Path, say: Say) -> None:
    (folder / "walk.yaml").write_text(WALKS[2])
    nodes = read_section(load_config(folder / "walk.yaml").task.sections[0]).shapes["patch"].index
    (folder / "embeddings").mkdir()
    bare = nodes.str.replace("-1", "")[5:]
    values = np.random.default_rng(0).normal(size=(len(bare), 4)).astype(np.float32)
    with h5py.File(folder / "embeddings/s1.h5", "w") as file:
        file["embeddings"], file["barcode"] = values, bare.to_numpy().astype("S")[:, None]
    run = walked(say, folder, 2)
    graph = read_store(run / "graph.zarr")
    mask = dict(zip(graph.obs("patch")["barcode"], graph["patch"].histology_mask.tolist(), strict=True))
    assert mask == {name: i >= 5 for i, name in enumerate(nodes)}
    assert "features/embeddings/s1.h5" in store_facts(run / "graph.zarr")["provenance"]["inputs"]
    (folder / "embeddings/s1.h5").rename(folder / "embeddings/other.h5")
    code, _, err = say("build", folder / "walk.yaml", "--out", folder / "none.zarr", "--quiet")
    assert code == 2 and "expected of sections such as 's1', found embeddings of no section" in err


def test_embeddings_of_cells_are_a_modality_of_cells(made: Path, tmp_path: Path, say: Say) -> None:
    cells = pd.read_parquet(made / "tissue/D1_untreated/xenium/cells.parquet")["cell_id"].astype(str)
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(len(cells), 3)), columns=["n0", "n1", "n2"])
    frame.assign(cell_id=cells).to_parquet(tmp_path / "novae.parquet")
    source = f"{{path: {made}/tissue/D1_untreated/xenium, reader: xenium}}"
    task = (
        f"task:\n  features: {{table: ./novae.parquet}}\n  sections: [{{name: s1, donor: d1, sources: [{source}]}}]\n"
    )
    (tmp_path / "cells.yaml").write_text(task)
    code, _, err = say("train", tmp_path / "cells.yaml", "--out", tmp_path / "run", *SMALL)
    assert code == 0, err
    graph = read_store(tmp_path / "run/graph.zarr")
    assert graph["cell"].histology_names == ["n0", "n1", "n2"] and bool(graph["cell"].histology_mask.all())
    code, _, err = say("query", tmp_path / "run", "niches", "--k", 2, "--out", tmp_path / "niches.csv")
    assert code == 0 and len(pd.read_csv(tmp_path / "niches.csv")) == len(cells), err


@pytest.mark.parametrize(
    ("features", "kind"),
    [
        ("{}", HistologyFeatures),
        ("{tile_um: 150}", HistologyFeatures),
        ("{encoder: ./e.pt}", ExportedEncoder),
        ("{table: './{section}.h5'}", EmbeddingTable),
    ],
)
def test_the_key_says_how_tiles_are_described_and_a_run_keeps_it(features: str, kind: type, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"task: {{features: {features}}}")
    config = load_config(tmp_path / "x.yaml")
    assert type(config.task.features) is kind
    paths = [v for v in config.task.features.model_dump().values() if isinstance(v, Path)]
    assert all(path.is_relative_to(tmp_path) for path in paths)
    (tmp_path / "kept.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "kept.yaml") == config


@pytest.mark.parametrize(
    ("features", "fault"),
    [
        ("{encoder: e.pt, input_pxl: 9}", "x.yaml:1: task.features.input_pxl: unknown key; did you mean 'input_px'?"),
        ("{table: e.h5, toleranse: 9}", "task.features.toleranse: unknown key; did you mean 'tolerance'?"),
        ("{tile: 9}", "task.features.tile: unknown key; did you mean 'tile_um'?"),
        ("{table: e.h5, frame: pixels}", "task.features.frame: expected 'microns', 'slide' or 'nodes', found 'pixels'"),
        ("{encoder: e.pt, table: e.h5}", "task.features.table: unknown key"),
        ("{encoder: e.pt, input_px: 2}", "task.features.input_px: expected greater than or equal to 8, found 2"),
    ],
)
def test_faults_name_the_options_of_what_was_chosen(features: str, fault: str, tmp_path: Path, say: Say) -> None:
    (tmp_path / "x.yaml").write_text(f"task: {{features: {features}}}")
    code, _, err = say("build", tmp_path / "x.yaml", "--out", tmp_path / "g.zarr")
    assert code == 2 and fault in err, err
    assert err.count("task.features") == 1
