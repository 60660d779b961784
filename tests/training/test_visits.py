"""Windows that training visits: each node once, kept while small, and the folds that closed forms look at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aivc_graph import names
from aivc_graph.graph.profiles import add_section_profiles
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.training import visits as visits_module
from aivc_graph.training.draws import Draws
from aivc_graph.training.visits import Visits
from tests.fitting import model_of
from tests.graph.tissues import random_tissue


@pytest.fixture(scope="module")
def graph() -> TissueGraph:
    graph = random_tissue(300)
    graph[names.CELL].split[::3] = names.SPLITS.index(names.VALIDATION)
    add_section_profiles(graph)
    return graph


@pytest.fixture(scope="module")
def model(graph: TissueGraph) -> TissueModel:
    return model_of(graph, ModelConfig(latent=4, rings=(3, 6)))


def test_every_node_is_of_one_core_and_windows_are_made_once(graph: TissueGraph, model: TissueModel) -> None:
    visits = Visits(graph, model, "cpu", 300, 60)
    first = list(visits.all())
    assert len(first) > 3 and sum(int(core["cell"].sum()) for _, core in first) == 300
    assert [id(inputs) for inputs, _ in visits.all()] == [id(inputs) for inputs, _ in first]
    assert [id(inputs) for inputs, _ in visits.for_held_out()] == [id(inputs) for inputs, _ in first]
    visits.size = 60
    assert len(list(visits.all())) == len(first)
    visits.size = 1000  # as after memory ran out, the other way
    assert visits.size == 1000 and len(list(visits.all())) == 1


def test_folds_are_of_one_side_and_of_cores_alone(graph: TissueGraph, model: TissueModel) -> None:
    visits = Visits(graph, model, "cpu", 300, 60)
    sides = {split: visits.folds(split) for split in (names.TRAIN, names.VALIDATION, names.TEST)}
    number = {split: sum(int(fold.rows["cell"].sum()) for fold in folds) for split, folds in sides.items()}
    assert number == {names.TRAIN: 200, names.VALIDATION: 100, names.TEST: 0}
    for fold in sides[names.TRAIN]:
        mask = torch.ones(fold.inputs.n_nodes["cell"])
        rows = fold.training("cell", mask)
        assert (fold.inputs.split["cell"].numpy()[rows] == names.SPLITS.index(names.TRAIN)).all()
        assert len(fold.training("cell", mask * 0)) == 0
        assert bool((fold.inputs.in_training("cell")[torch.from_numpy(rows)]).all())


def test_large_tissue_is_read_anew_and_looked_at_in_parts(
    graph: TissueGraph, model: TissueModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visits_module, "CACHED_NODES", 100)
    visits = Visits(graph, model, "cpu", 300, 30)
    every, some = list(visits.all()), list(visits.for_held_out())
    assert sum(int(core["cell"].sum()) for _, core in every) == 300
    assert len(some) < len(every) and id(next(iter(visits.all()))[0]) != id(every[0][0])
    assert 0 < len(visits.folds(names.TRAIN)) < len(every)


def test_choices_of_an_epoch_are_the_same_in_every_run_and_others_in_every_epoch() -> None:
    def drawn(draws: Draws) -> tuple[list[float], list[float]]:
        return draws.hidden.random(4).tolist(), torch.rand(4, generator=draws.states).tolist()

    assert drawn(Draws.of(1, 2)) == drawn(Draws.of(1, 2))
    several = [drawn(one) for one in (Draws.of(1, 2), Draws.of(1, 3), Draws.of(2, 2), Draws.of(1))]
    for part in zip(*several, strict=True):
        assert len(np.unique(np.array(part)[:, 0])) == 4
