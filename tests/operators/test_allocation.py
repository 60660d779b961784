"""A parent's rate shared out among its children: it adds up, begins at shares of area, departs on held-out tissue."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from aivc_graph.graph.anchors import AnchorConfig
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.part import AFTER_TRAINING, BEFORE_TRAINING
from aivc_graph.operators.prediction import shared_fit
from aivc_graph.operators.prediction.allocation import AllocationPrediction
from aivc_graph.query import states
from aivc_graph.query.virtual_tissue import VirtualTissue
from tests.fitting import fit_stages, fitting_of, fold_of, model_of

CONFIG = ModelConfig(latent=3, rings=(4, 8), measurement={"type": {"kind": "categorical", "encode": True}})
GRAPH = GraphConfig(edges={"cell": {"kind": "knn", "k": 8}, "patch": {"kind": "knn", "k": 6}})
CAPTURE = 3.0
Maker = Callable[..., Any]


def sections_of(maker: Maker, seed: int = 0) -> list[Any]:
    """Return cells and spots of three donors; spots catch the first five genes three times as well."""
    made = [maker(f"s{i}", n=400, seed=seed + i, levels=("cell", "patch"), donor=f"d{i}") for i in range(3)]
    for section in made:
        table = section.tables["patch_rna"]
        counts = table.X.toarray()
        counts[:, :5] *= CAPTURE
        section.shapes["patch"]["radius"] = 9.0  # so that few spots overlap
        table.X = type(table.X)(counts)
    return made


@pytest.fixture(scope="module")
def graph(striped_section: Maker) -> TissueGraph:
    """A tissue of which the cells of the last section were not counted."""
    return uncounted(build_graph(sections_of(striped_section), GRAPH))


def uncounted(graph: TissueGraph) -> TissueGraph:
    last = graph["cell"].section_index == 2
    counts = to_scipy_csr(graph.counts("cell", "rna")).tolil()
    counts[last.numpy()] = 0
    graph["gene", "observed_in", "cell"].adj_t = to_torch_csr(counts.tocsr())
    graph["cell"].rna_mask = graph["cell"].rna_mask & ~last
    return graph


@pytest.fixture(scope="module")
def model(graph: TissueGraph) -> TissueModel:
    return fitted(graph)


def fitted(graph: TissueGraph, config: ModelConfig = CONFIG) -> TissueModel:
    model = model_of(graph, config)
    held_out = {level: graph.in_split(level, "validation").numpy() for level in graph.levels}
    fitting = fitting_of(graph, model, [fold_of(graph, model)], [fold_of(graph, model, held_out)])
    fit_stages(fitting, (*BEFORE_TRAINING, *AFTER_TRAINING))
    return model


def part_of(model: TissueModel) -> AllocationPrediction:
    return next(one for one in model.parts_of("prediction") if isinstance(one, AllocationPrediction))


def weighing(model: TissueModel, weight: float, said: float = 1.0, types: float = 0.0) -> TissueModel:
    part_of(model).type_share.fill_(types)
    part_of(model).count_share.fill_(weight)
    part_of(model).said_share.fill_(said)
    return model


def answers(model: TissueModel, graph: TissueGraph) -> tuple[np.ndarray, np.ndarray]:
    """Return what is told of cells as the question `expression` tells it (cell, gene), and the overlap (spot, cell)."""
    told = VirtualTissue(graph, model).ask("expression", at="cell").X
    return np.asarray(told, np.float64), to_scipy_csr(graph["cell", "within", "patch"].adj_t).toarray()


def alone(graph: TissueGraph, overlap: np.ndarray) -> np.ndarray:
    """Return the spots over uncounted cells that lie beneath no other (spot,)."""
    shared = (overlap > 0).sum(axis=0) > 1
    spots = (graph["patch"].section_index == 2).numpy() & (overlap.sum(axis=1) > 0)
    found: np.ndarray = spots & ~(overlap[:, shared] > 0).any(axis=1)
    assert found.sum() > 5
    return found


@pytest.mark.parametrize("weight", [1e-3, 1e-1, 1e4])
def test_cells_add_up_to_the_rate_of_their_spot_by_its_capture(
    graph: TissueGraph, model: TissueModel, weight: float
) -> None:
    said, overlap = answers(weighing(model, 0.0), graph)
    told, _ = answers(weighing(model, weight), graph)
    spots = alone(graph, overlap)
    within = overlap[spots] / overlap[spots].sum(axis=1, keepdims=True)
    capture = np.exp(part_of(model).log_capture.double().numpy())
    counts = to_scipy_csr(graph.counts("patch", "rna")).toarray()[spots]
    before = within @ said
    expected = before / capture
    expected /= expected.sum(axis=1, keepdims=True)
    rate = (expected + weight * counts) / (1 + weight * counts.sum(axis=1, keepdims=True))
    wanted = rate * capture
    wanted *= before.sum(axis=1, keepdims=True) / wanted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(within @ told, wanted, rtol=1e-6, atol=1e-9 * wanted.max())
    assert np.abs(within @ said - wanted).max() > 0.01 * wanted.max()
    counted = (graph["cell"].section_index < 2).numpy()
    np.testing.assert_array_equal(told[counted], said[counted])
    weighing(model, 0.0)


def test_what_tells_cells_of_a_spot_apart_is_kept(graph: TissueGraph, model: TissueModel) -> None:
    said, overlap = answers(weighing(model, 0.0), graph)
    told, _ = answers(weighing(model, 1e-2), graph)
    weighing(model, 0.0)
    for spot in np.flatnonzero(alone(graph, overlap) & ((overlap > 0).sum(axis=1) > 1))[:5]:
        ratio = (told / said)[overlap[spot] > 0]
        np.testing.assert_allclose(ratio, np.broadcast_to(ratio[0], ratio.shape), rtol=1e-4)


def test_the_capture_of_a_platform_is_found(graph: TissueGraph, model: TissueModel) -> None:
    caught = torch.from_numpy(graph.obs("gene").index.isin([f"G{i}" for i in range(5)]))
    capture = part_of(model).log_capture
    assert float(capture[~caught].mean() - capture[caught].mean()) == pytest.approx(np.log(CAPTURE), abs=0.15)


def test_the_rule_it_begins_at_is_shares_of_area(graph: TissueGraph, model: TissueModel) -> None:
    part, kept = part_of(model), (float(part_of(model).count_share), float(part_of(model).said_share))
    shared_fit.set_rule(part, [fold_of(graph, model)])
    assert float(part.said_share) == 0.0
    told, overlap = answers(model, graph)
    spots = (graph["patch"].section_index == 2).numpy() & (overlap.sum(axis=1) > 0)
    counts = to_scipy_csr(graph.counts("patch", "rna")).toarray()[spots]
    weight, capture = float(part.count_share), part.log_capture.double().exp().numpy()
    before = part.profile.double().numpy() / capture
    rate = (before / before.sum() + weight * counts) / (1 + weight * counts.sum(axis=1, keepdims=True)) * capture
    rate /= rate.sum(axis=1, keepdims=True)
    below = overlap[spots].sum(axis=0) > 0
    area = overlap[spots][:, below] / overlap[spots][:, below].sum(axis=0)
    np.testing.assert_allclose(told[below], 1e4 * area.T @ rate, rtol=1e-5)
    weighing(model, *kept)


def test_the_weight_of_a_count_is_what_parents_differ_by() -> None:
    rng = np.random.default_rng(0)
    for concentration in (20.0, 200.0):
        shares = rng.dirichlet(concentration * rng.dirichlet(np.full(40, 2.0)), 500)
        counts = np.stack([rng.multinomial(300, one) for one in shares]).astype(float)
        found = shared_fit.weight_of_counts(torch.from_numpy(counts))
        assert 1 / found == pytest.approx(concentration, rel=0.15)
    assert shared_fit.weight_of_counts(torch.ones(1, 5)) == 0.0


@torch.no_grad()
def test_it_departs_from_the_rule_where_the_state_tells_cells_apart_and_not_of_strangers(graph: TissueGraph) -> None:
    model = fitted(graph)  # types are known of cells whose counts are not
    part, rule = part_of(model), shared_fit.weight_of_counts(graph.counts("patch", "rna").to_dense().double())
    assert float(part.said_share) > 0
    drawn = np.random.default_rng(0).permutation(int(graph["cell"].num_nodes))
    strangers, counts = copy.copy(graph), to_scipy_csr(graph.counts("cell", "rna"))
    strangers["gene", "observed_in", "cell"].adj_t = to_torch_csr(counts[drawn])
    part.count_share.fill_(rule)
    shared_fit.set_departure(part, fitting_of(strangers, model, [fold_of(strangers, model)]))
    assert float(part.said_share) == 0.0


def test_few_anchors_leave_the_rule_as_it_is(striped_section: Maker) -> None:
    made = sections_of(striped_section)
    for level in ("cell", "patch"):
        made[2].shapes[level]["split"] = "test"
    few = GRAPH.model_copy(update={"anchors": AnchorConfig(share=0.02)})
    part = part_of(fitted(uncounted(build_graph(made, few)), ModelConfig(latent=3, rings=(4, 8))))
    assert float(part.said_share) == 0.0 < float(part.count_share)


def test_spots_over_counted_cells_say_nothing(graph: TissueGraph, model: TissueModel) -> None:
    said, overlap = answers(weighing(model, 0.0), graph)
    told, _ = answers(weighing(model, 1e-1), graph)
    weighing(model, 0.0)
    counted = (graph["cell"].section_index < 2).numpy()
    np.testing.assert_array_equal(told[counted], said[counted])
    assert np.abs(told - said)[~counted & (overlap > 0).any(axis=0)].max() > 0


def test_mass_is_kept_over_spots_that_share_cells_and_windows_equal_the_whole(
    striped_section: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft = GRAPH.model_copy(update={"anchors": AnchorConfig(sigma_um=25.0)})
    graph = uncounted(build_graph(sections_of(striped_section), soft))
    model = weighing(fitted(graph), 1e-2)
    part, inputs = part_of(model), model.prepare(graph)
    with torch.no_grad(), model.asked("expression"):
        state = model(inputs)
        said = model.expected(state, inputs, "cell", "rna", without=part)
        told = model.expected(state, inputs, "cell", "rna")
        factor = part.factor(said.shares.double(), inputs).numpy()
    overlap = to_scipy_csr(graph["cell", "within", "patch"].adj_t).toarray()[part.serving(state, inputs) > 0]
    assert ((overlap > 0).sum(axis=0) > 1).any()
    before, after = (one.shares.double().numpy() for one in (said, told))
    of_spots = (overlap @ before) * factor[(part.serving(state, inputs) > 0).numpy()]
    np.testing.assert_allclose(overlap.sum(axis=0) @ after, of_spots.sum(axis=0), rtol=1e-6)
    whole, _ = answers(model, graph)
    monkeypatch.setattr(states, "WINDOW_NODES", 200)
    np.testing.assert_allclose(answers(model, graph)[0], whole, rtol=2e-3, atol=1e-2)
