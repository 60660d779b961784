"""Whatever is done to the test side, every number that a run fits stays the same to the last byte."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from aivc_graph import names
from aivc_graph.config import load_config
from aivc_graph.graph.store import read_store
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.pipeline import build as building
from aivc_graph.pipeline.train import train_config
from aivc_graph.simulate.simulate import simulate
from aivc_graph.tissue.frame import positions_um
from aivc_graph.tissue.section import metadata_of

SPLITS = {
    "donor": {"kind": "by_group", "key": "donor", "test": ["D2"]},
    "block": {"kind": "by_block", "block_um": 130, "buffer_um": 60, "test_share": 0.25, "validation_share": 0.1},
}
SETTINGS = ["graph.n_genes=25", "model.latent=6", "model.rings=[6,12]", "training.epochs=1", "training.device=cpu"]
TILE_HALF_UM = 42.0
Sides = dict[tuple[str, str], pd.Series]


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("tiny", tmp_path_factory.mktemp("leakproof") / "tissue")


def trained(
    tissue: Path, split: dict[str, Any], out: Path, spoil: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Sides]:
    """Build and train with every section passed through `spoil` as it is read; return the run and who is where."""
    read, hold_out, sides = building.read_sections, building.hold_out, {}

    def spoiled(*given: Any) -> Any:
        found = read(*given)
        for section, _ in found:
            spoil(section)
        return found

    def held_out(sections: list[Any], *given: Any) -> Any:
        found = hold_out(sections, *given)
        for section in sections:
            for level in (names.CELL, names.PATCH):
                label = section.shapes[level][names.SPLIT.name].copy()
                sides[str(metadata_of(section)["section"]), level] = label
        return found

    with monkeypatch.context() as patched:
        patched.setattr(building, "read_sections", spoiled)
        patched.setattr(building, "hold_out", held_out)
        config = load_config(tissue / "config.yaml", [*SETTINGS, f"task.split={json.dumps(split)}"])
        return train_config(config, None, out, resume=False, device="cpu").folder, sides


def spoil_test_side(section: Any, sides: Sides, wanted: str = names.TEST) -> None:
    """Replace counts, labels and pixels of one side by others that no tissue has."""
    name, rng = str(metadata_of(section)["section"]), np.random.default_rng(1)
    for level in (names.CELL, names.PATCH):
        shapes, table = section.shapes[level], section.tables[f"{level}_rna"]
        rows = (sides[name, level] == wanted).to_numpy()
        if names.LABEL in shapes:
            label = shapes[names.LABEL].astype(object)
            label[rows] = rng.choice(["spoilt", "rotten"], rows.sum())
            shapes[names.LABEL] = label
        counts = sparse.lil_matrix(table.X)
        here = rows[shapes.index.get_indexer(table.obs[names.BARCODE])]
        counts[here] = rng.poisson(rng.gamma(0.3, 30.0, (1, counts.shape[1])), (here.sum(), counts.shape[1]))
        counts[np.flatnonzero(here)[:3]] = 0
        table.X = sparse.csr_matrix(counts, dtype=np.float32)
    pixels = np.asarray(section.images[names.SLIDE].data).copy()
    label = sides[name, names.PATCH]
    others = positions_um(section, names.PATCH)[~label.isin([wanted, names.UNUSED]).to_numpy()]
    y, x = np.indices(pixels.shape[1:]) + 0.5
    away = np.ones(pixels.shape[1:], bool)
    for centre in others:  # a pixel of the slide is a micron
        away &= np.maximum(abs(x - centre[0]), abs(y - centre[1])) > TILE_HALF_UM
    pixels[:, away] = rng.integers(0, 120, (3, away.sum()))
    section.images[names.SLIDE].data = da.from_array(pixels)


def fitted(run: Path) -> dict[str, bytes]:
    """Return every file of a run that holds fitted numbers, without clock times."""
    found = {name: (run / name).read_bytes() for name in ("model.safetensors", "model.json", "training.json")}
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in one.items() if "second" not in k} for one in epochs]
    return {**found, "metrics": json.dumps(kept).encode()}


def normal(graph: TissueGraph) -> dict[str, Any]:
    """Return what is normal by the graph: genes, depths, profiles and features of the training side."""
    found: dict[str, Any] = {"genes": list(graph.obs(names.GENE).index)}
    training_sections = set()
    for level in (names.CELL, names.PATCH):
        rows = graph.in_split(level, names.TRAIN)
        training_sections |= set(graph[level].section_index[rows].tolist())
        for key in ("rna_depth", "rna_common", "rna_panel"):
            found[f"{level} {key}"] = np.asarray(graph[level][key])
    found["tiles"] = graph[names.PATCH].histology[graph.in_split(names.PATCH, names.TRAIN)].numpy()
    for key, value in graph[names.SECTION].items():
        if key.endswith(("_mean", "_spread", "_offset")):
            found[key] = value[sorted(training_sections)].numpy()
    return found


@pytest.fixture(scope="module")
def clean(tissue: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Sides]]:
    """Return the run of a split as it should be, trained once."""

    @functools.cache
    def of(kind: str) -> tuple[Path, Sides]:
        with pytest.MonkeyPatch.context() as patched:
            out = tmp_path_factory.mktemp("clean") / kind
            return trained(tissue, SPLITS[kind], out, lambda section: None, patched)

    return of


@pytest.mark.parametrize("kind", SPLITS)
def test_the_test_side_moves_nothing(
    kind: str,
    tissue: Path,
    clean: Callable[[str], tuple[Path, Sides]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, sides = clean(kind)
    assert sum((label == names.TEST).sum() for label in sides.values()) > 100
    spoilt, again = trained(tissue, SPLITS[kind], tmp_path / "run", lambda s: spoil_test_side(s, sides), monkeypatch)
    for key, label in sides.items():
        pd.testing.assert_series_equal(label, again[key])
    before, after = (normal(read_store(folder / "graph.zarr")) for folder in (run, spoilt))
    for key, value in before.items():
        np.testing.assert_array_equal(value, after[key], err_msg=key)
    found = fitted(spoilt)
    assert {name for name, content in fitted(run).items() if content != found[name]} == set()


def test_the_training_side_moves_everything(
    tissue: Path, clean: Callable[[str], tuple[Path, Sides]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same spoiling on the other side is seen, so that the test above can fail."""
    run, sides = clean("donor")
    out = tmp_path / "run"
    spoilt, _ = trained(tissue, SPLITS["donor"], out, lambda s: spoil_test_side(s, sides, names.TRAIN), monkeypatch)
    before, after = (normal(read_store(folder / "graph.zarr")) for folder in (run, spoilt))
    assert {key for key in before if np.array_equal(before[key], after[key])} == set()
    found = fitted(spoilt)
    assert {name for name, content in fitted(run).items() if content == found[name]} == set()


@pytest.mark.parametrize("kind", SPLITS)
def test_no_message_crosses_the_split(kind: str, clean: Callable[[str], tuple[Path, Sides]]) -> None:
    graph = read_store(clean(kind)[0] / "graph.zarr")
    labels = {level: graph[level].split.numpy() for level in graph.levels}
    counted = 0
    for source, name, target in graph.edge_types:
        if source in labels and target in labels:
            edges = to_scipy_csr(graph[source, name, target].adj_t).tocoo()
            assert (labels[target][edges.row] == labels[source][edges.col]).all()
            counted += edges.nnz
    assert counted > 1000
