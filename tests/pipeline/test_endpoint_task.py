"""A trait of donors, told from their sections with each donor left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aivc_graph.config import load_config
from aivc_graph.errors import QueryError
from aivc_graph.evaluation.scoring import score
from aivc_graph.graph.build import build_graph
from aivc_graph.pipeline.tasks.endpoint import endpoint
from aivc_graph.pipeline.tasks.task import Asked
from aivc_graph.pipeline.train import train
from aivc_graph.query.virtual_tissue import VirtualTissue
from tests.pipeline.test_evaluate import CONFIG, GRAPH


def test_a_trait_of_donors_is_told_with_each_left_out(striped_section: Callable[..., Any], tmp_path: Path) -> None:
    sections = []
    for i in range(8):
        sections.append(striped_section(f"s{i}", n=800, levels=("patch",), seed=i, donor=f"d{i // 2}"))
        sections[-1].attrs["aivc"]["stage"] = ("early", "late")[i // 4]
    for late in sections[4:]:  # late tissue has lost a stripe
        kept = (late.shapes["patch"]["label"] != "stripe 2").to_numpy()
        late.shapes["patch"] = late.shapes["patch"][kept]
        for name in ("patch_rna", "patch_histology"):
            late.tables[name] = late.tables[name][kept].copy()
    run = train(build_graph(sections, GRAPH), CONFIG, tmp_path / "run").folder
    tissue = VirtualTissue.load(run)
    (scored,) = endpoint(Asked(tissue, load_config(run / "config.yaml", ["evaluation.endpoint=stage"])))
    assert (scored.split, scored.readout, scored.ceilings) == ("leave-donor-out", "endpoint, stage", {})
    assert scored.leakage == 1.0  # the tissue of all donors trained the model, though no stage did
    value = {r.predictor: r.value for r in score([scored])[0]}
    assert value["model"] == 1.0 > value["most_frequent"]
    assert set(value) == {
        "model",
        "most_frequent",
        "own_mixture",
        "neighbour_mean_mixture",
        "mean_expression",
        "shares_of_types",
    }
    with pytest.raises(QueryError, match="did you mean 'stage'"):
        endpoint(Asked(tissue, load_config(run / "config.yaml", ["evaluation.endpoint=stages"])))
    assert endpoint(Asked(tissue, load_config(run / "config.yaml"))) == []
