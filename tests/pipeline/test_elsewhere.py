"""Questions of tissue that a run never saw, by the command line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aivc_graph.io.writers.geojson import write_geojson
from aivc_graph.plot.palette import nth_colour
from aivc_graph.query.virtual_tissue import VirtualTissue
from tests.pipeline.conftest import CONFIG

pytestmark = pytest.mark.usefixtures("where_data_lies")
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def elsewhere(made: Path) -> Path:
    """Return a configuration of tissue that the run knows under another name, laid by other settings of its own."""
    text = CONFIG.replace("name: tiny", "name: there").replace("name: s1", "name: t1").replace("donor: d1", "donor: d9")
    (made / "there.yaml").write_text(f"{text}graph: {{region_factor: 3, n_genes: 20}}\n")
    return made / "there.yaml"


@pytest.mark.parametrize("level", ["cell", "patch", "region"])
def test_the_same_tissue_under_another_name_has_the_same_niches(
    made: Path, elsewhere: Path, tmp_path: Path, say: Say, level: str
) -> None:
    tables = []
    for on in ([], ["--on", elsewhere]):
        code, _, err = say("query", made / "run", "niches", "--level", level, "--out", tmp_path / "n.csv", *on)
        assert code == 0, err
        tables.append(pd.read_csv(tmp_path / "n.csv"))
    own, there = tables
    assert set(there["section"]) == {"t1"} and (own["barcode"] == there["barcode"]).all()
    shares = [column for column in own if column.startswith("niche")]
    pd.testing.assert_frame_equal(own[shares], there[shares], atol=1e-5)


@pytest.mark.parametrize(
    "asked",
    [
        ["expression", "--genes", "EPCAM,CD3E", "--at", "niche"],
        ["expression", "--genes", "EPCAM"],
        ["composition"],
        ["neighbours"],
        ["similar", "--to-niche", "1", "--n", "7"],
    ],
)
def test_every_question_is_answered_of_other_tissue(made: Path, elsewhere: Path, say: Say, asked: list[str]) -> None:
    own, there = (say("query", made / "run", *asked, *on) for on in ([], ["--on", elsewhere]))
    assert own[0] == there[0] == 0, there[2]
    assert len(own[1].splitlines()) == len(there[1].splitlines())


def test_a_node_of_the_run_is_sought_elsewhere(made: Path, elsewhere: Path, say: Say) -> None:
    """Elsewhere is the same tissue, so that the nearest node is the node itself."""
    barcode = VirtualTissue.load(made / "run").graph.obs("cell")["barcode"].iloc[5]
    asked = ["similar", "--to-node", barcode, "--section", "s1", "--n", 1, "--on", elsewhere]
    code, said, err = say("query", made / "run", *asked)
    assert code == 0 and f"t1:{barcode} " in said, err
    code, _, err = say("query", made / "run", *asked[:4], "s9", *asked[5:])
    assert code == 2 and f"no node named 's9:{barcode}'" in err


def test_it_is_built_once_in_the_cache_and_anew_when_a_setting_is(made: Path, elsewhere: Path, say: Say) -> None:
    def stores() -> dict[str, int]:
        return {p.name: p.stat().st_mtime_ns for p in (made / "cache/aivc-graph/graphs").glob("*.zarr")}

    assert say("query", made / "run", "neighbours", "--on", elsewhere)[0] == 0
    first = stores()
    assert say("query", made / "run", "neighbours", "--on", elsewhere)[0] == 0
    assert stores() == first
    text = elsewhere.read_text()
    elsewhere.with_name("again.yaml").write_text(text.replace("donor: d9", "donor: d8"))
    assert say("query", made / "run", "neighbours", "--on", elsewhere.with_name("again.yaml"))[0] == 0
    assert len(stores()) == len(first) + 1


def test_a_graph_store_is_asked_if_it_was_laid_as_the_run_s(made: Path, tmp_path: Path, say: Say) -> None:
    code, _, err = say("query", made / "run", "niches", "--on", made / "graph.zarr")
    assert code == 0, err
    other = ["--out", tmp_path / "other.zarr", "--set", "graph.region_factor=2", "--quiet"]
    assert say("build", made / "tiny.yaml", *other)[0] == 0
    code, _, err = say("query", made / "run", "niches", "--on", tmp_path / "other.zarr")
    assert code == 2 and "graph.region_factor = 2" in err and "give its YAML file to --on instead" in err
    code, _, err = say("query", made / "run", "niches", "--on", tmp_path / "absent.yaml")
    assert code == 2 and "no such graph store or configuration" in err


def test_a_niche_has_one_colour_in_pictures_tables_and_qupath(made: Path, tmp_path: Path, say: Say) -> None:
    tissue = VirtualTissue.load(made / "run")
    answer = tissue.niches(k=11)
    assert answer.uns["niche_colors"] == [nth_colour(i) for i in range(11)]
    cyclic = pd.Categorical.from_codes(np.arange(answer.n_obs) % 11, categories=answer.var_names)
    graph = copy.copy(tissue.graph)
    graph["cell"].obs = answer.obs.assign(niche=cyclic)
    written = json.loads(write_geojson(graph, tmp_path / "s1.geojson").read_text())
    cells = [f["properties"] for f in written["features"] if f["properties"]["metadata"]["level"] == "cell"]
    shown = {int(p["classification"]["name"]): p["classification"]["color"] for p in cells}
    assert len(shown) == 11
    for niche, colour in shown.items():
        assert "#" + "".join(f"{part:02X}" for part in colour) == nth_colour(niche - 1)
    drawn = tissue.plot("s1", k=11).collections[0].get_facecolors()
    expected = [[int(nth_colour(i)[at : at + 2], 16) / 255 for at in (1, 3, 5)] for i in range(11)]
    np.testing.assert_allclose(drawn[:, :3], np.array(expected)[answer.obs["niche"].cat.codes], atol=1e-6)
