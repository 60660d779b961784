"""From files to a graph by the command line: nothing lost, nothing left over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aivc_graph.config import Config, TaskConfig
from aivc_graph.evaluation.receptive_field import touched_by
from aivc_graph.graph.build import GraphConfig, lay_graph
from aivc_graph.graph.store import read_store
from aivc_graph.model.plan import message_steps
from aivc_graph.model.settings import ModelConfig
from aivc_graph.pipeline.build import hold_out, reach_of
from aivc_graph.pipeline.doubts import doubts_of_reach
from aivc_graph.simulate.programmes import GENES
from tests.splits.test_by_block import tissue as block_tissue

pytestmark = pytest.mark.usefixtures("where_data_lies")


def test_sound_tissue_raises_no_alarm(made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = say("build", made / "tiny.yaml", "--out", tmp_path / "graph.zarr", "--quiet")
    assert code == 0 and err == ""


def test_every_cell_and_spot_that_was_delivered_is_in_the_graph(made: Path) -> None:
    graph = read_store(made / "graph.zarr")
    cells = pd.read_parquet(made / "tissue/D1_untreated/xenium/cells.parquet")
    obs = graph.obs("cell").set_index("barcode")
    assert set(cells["cell_id"]) == set(obs.index)
    place = pd.DataFrame(graph["cell"].pos.numpy(), index=obs.index).loc[cells["cell_id"]]
    np.testing.assert_allclose(place, cells[["x_centroid", "y_centroid"]], atol=1e-2)


def test_traits_of_a_section_stand_on_the_graph(made: Path) -> None:
    obs = read_store(made / "graph.zarr").obs("section")
    assert obs.loc["s1", ["donor", "stage"]].tolist() == ["d1", "early"]


def test_without_a_writable_cache_tissue_is_built_and_it_is_said_once(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    build = ("build", made / "tiny.yaml", "--out", tmp_path / "graph.zarr", "--quiet")
    (code, _, err), (again, _, silent) = say(*build), say(*build)
    assert code == again == 0 and silent == ""
    assert err.count("tiles and baselines are not remembered (XDG_CACHE_HOME names another place)") == 1
    assert f"{tmp_path}/file/aivc-graph: Not a directory" in err


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


@pytest.mark.parametrize(("buffer", "told"), [("auto", 0), (150, 1)])
def test_a_gap_as_wide_as_messages_reach_needs_no_cut_edge(buffer: object, told: int) -> None:
    section = block_tissue(n=3000)
    split = {"kind": "by_block", "block_um": 1600, "buffer_um": buffer, "test_share": 0.15, "validation_share": 0}
    graph = GraphConfig(edges={"cell": {"kind": "knn", "k": 3}, "patch": {"kind": "grid"}})
    config = Config(task=TaskConfig(split=split), graph=graph, model=ModelConfig(depth=2))
    reach = reach_of([section], config)
    assert 250 < reach["cell"] < 1600 and reach["cell"] >= reach["patch"]
    hold_out([section], config.task, max(reach.values()))
    found = doubts_of_reach(config.task, reach)
    assert len(found) == told and all("as far as messages reach" in one for one in found)
    sides = {v: section.shapes[v]["split"].to_numpy(str) for v in ("cell", "patch")}
    for level in sides:
        section.shapes[level]["split"] = "train"  # so that no edge is cut
    whole = lay_graph([section], graph)
    label = {v: pd.Series(sides[v], section.shapes[v].index)[whole.obs(v)["barcode"]].to_numpy() for v in sides}
    touched = touched_by(whole, message_steps(whole, ModelConfig(depth=2)), {v: label[v] == "train" for v in sides})
    assert (label["cell"] == "train").sum() > 100 < (label["cell"] == "test").sum()
    assert [bool(touched[v][label[v] == "test"].any()) for v in sides] == [bool(told)] * 2


def test_whole_sections_held_out_are_not_asked_how_far_messages_reach() -> None:
    assert reach_of([], Config(task=TaskConfig(split={"kind": "by_group", "test": ["a"]}))) == {}
