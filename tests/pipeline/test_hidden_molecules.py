"""Half of the molecules of a patch from what the other half says it is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.pipeline.tasks.hidden_molecules import spot_to_hidden_molecules
from aivc_graph.pipeline.tasks.task import Asked
from aivc_graph.pipeline.train import train
from aivc_graph.query.virtual_tissue import VirtualTissue
from tests.query.stripes import CONFIG
from tests.reference import GENES, cells_of, reference_section, spot_section, spots_of

EDGES = GraphConfig(edges={"patch": {"kind": "knn", "k": 4}})


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder: Path = tmp_path_factory.mktemp("hidden") / "run"
    sections = [spot_section("s1", spots_of()[0]), reference_section(*cells_of())]
    train(build_graph(sections, EDGES), CONFIG, folder)
    tissue: Any = VirtualTissue.load(folder)
    return Asked(tissue, tissue)


def error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(((one - other) ** 2).mean()))


def test_composition_tells_hidden_molecules_of_held_out_patches_better_than_least_squares(asked: Asked) -> None:
    (found,) = spot_to_hidden_molecules(asked)
    assert found.measured.shape == (12, len(GENES)) and found.split == "test"
    errors = {name: error(each, found.measured) for name, each in {**found.baselines, "model": found.model}.items()}
    assert errors["model"] < 0.9 * min(errors["nnls"], errors["global_mean"])


def test_profiles_of_other_genes_tell_nothing(asked: Asked) -> None:
    (right,) = spot_to_hidden_molecules(asked)
    part = asked.model.part("composition", "cell", "patch")
    kept = part.rates.clone()
    part.rates.copy_(kept[:, list(reversed(range(len(GENES))))])
    (wrong,) = spot_to_hidden_molecules(asked)
    part.rates.copy_(kept)
    assert error(wrong.model, wrong.measured) > 1.5 * error(right.model, right.measured)
