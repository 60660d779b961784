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
    part.weight.fill_(rule)
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
        serving = part.serving(state, inputs) > 0
        before = to_scipy_csr(inputs["relation", *part.relation].up.forward_csr) @ said.shares.double().numpy()
        factor = part.factor(torch.from_numpy(before), part.counts(inputs).double(), part.count_share).numpy()
    overlap = to_scipy_csr(graph["cell", "within", "patch"].adj_t).toarray()[serving]
    assert ((overlap > 0).sum(axis=0) > 1).any()
    before, after = (one.shares.double().numpy() for one in (said, told))
    of_spots = (overlap @ before) * factor[serving.numpy()]
    np.testing.assert_allclose(overlap.sum(axis=0) @ after, of_spots.sum(axis=0), rtol=1e-6)
    whole, _ = answers(model, graph)
    monkeypatch.setattr(states, "WINDOW_NODES", 200)
    np.testing.assert_allclose(answers(model, graph)[0], whole, rtol=2e-3, atol=1e-2)


def test_what_lies_in_a_spot_is_told_by_the_types_in_its_counts(graph: TissueGraph, model: TissueModel) -> None:
    part, rng = copy.deepcopy(part_of(model)), np.random.default_rng(0)
    profiles = torch.from_numpy(rng.dirichlet(np.full(30, 0.3), len(part.plan.types)))
    part.type_profiles.copy_(profiles)
    shares = torch.from_numpy(rng.dirichlet(np.ones(len(profiles)), 20))
    caught = shares @ profiles / part.log_capture.double().exp()
    counts = torch.from_numpy(np.stack([rng.multinomial(100_000, one / one.sum()) for one in caught.numpy()]))
    found = part.of_types(counts.double())
    np.testing.assert_allclose(found.sum(dim=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(found, shares @ profiles, atol=0.01)
    assert not part.of_types(torch.zeros(1, 30, dtype=torch.float64)).any()


def test_with_nothing_said_or_counted_a_cell_is_of_the_types_of_its_spot(
    graph: TissueGraph, model: TissueModel
) -> None:
    kept = {name: one.clone() for name, one in part_of(model).named_buffers()}
    told, overlap = answers(weighing(model, 0.0, 0.0, 1.0), graph)
    spots = alone(graph, overlap)
    counts = graph.counts("patch", "rna").to_dense().double()
    types = part_of(model).of_types(counts).numpy()[spots]
    for spot, wanted in zip(np.flatnonzero(spots), types, strict=True):
        beneath = told[overlap[spot] > 0]
        np.testing.assert_allclose(
            beneath / beneath.sum(axis=1, keepdims=True), wanted[None].repeat(len(beneath), 0), rtol=1e-4, atol=1e-7
        )
    for name, one in kept.items():
        getattr(part_of(model), name).copy_(one)


def test_types_have_the_profiles_of_their_training_cells(graph: TissueGraph, model: TissueModel) -> None:
    part, counts = part_of(model), graph.counts("cell", "rna").to_dense().numpy()
    label, train = graph.obs("cell")["label"].to_numpy(), graph.in_split("cell", "train").numpy()
    train = train & graph["cell"].rna_mask.numpy()
    for row, name in zip(part.type_profiles.numpy(), part.plan.types, strict=True):
        mean = counts[train & (label == name)].sum(axis=0)
        assert np.corrcoef(row, mean)[0, 1] > 0.99
        assert row.sum() == pytest.approx(1.0, abs=1e-5)


def test_a_cell_between_spots_is_told_by_the_nearest_that_lie_in_one(graph: TissueGraph, model: TissueModel) -> None:
    told, overlap = answers(weighing(model, 1e-2), graph)
    weighing(model, 0.0)
    last = (graph["cell"].section_index == 2).numpy()
    inside = (overlap[(graph["patch"].section_index == 2).numpy()] > 0).any(axis=0)
    inputs = model.prepare(graph)
    ring = to_scipy_csr(inputs.rings("cell")[0].forward_csr).toarray()
    near = (ring > 0) & inside
    between = np.flatnonzero(last & ~inside & near.any(axis=1))
    assert len(between) > 5
    for cell in between[:10]:
        weight = ring[cell] * inside
        np.testing.assert_allclose(told[cell], weight @ told / weight.sum(), rtol=1e-4)


def test_the_way_is_taken_that_surely_gains_most() -> None:
    rng = np.random.default_rng(0)
    gains = np.stack([np.zeros(8), 3 + 20 * rng.standard_normal(8), 2 + 0.1 * rng.standard_normal(8)], axis=1)
    gains[:, 1] += 3 - gains[:, 1].mean()
    assert shared_fit.surest(gains) == 2
    assert shared_fit.surest(-np.abs(gains)) == 0
    assert shared_fit.surest(np.repeat(gains, 200, axis=0)) == 1


def test_pooled_cells_tell_spots_and_a_state_that_knows_nothing_is_left_out(striped_section: Maker) -> None:
    made = sections_of(striped_section)
    graph = build_graph(made, GRAPH)
    model = fitted(graph, ModelConfig(latent=3, rings=(4, 8)))
    part = next(one for one in model.parts_of("prediction") if one.slot == ("cell", "patch", "rna"))
    assert float(part.count_share) > 0  # the cells beneath say more of a spot than the mean
    told = VirtualTissue(graph, model).ask("expression", at="patch").X
    assert np.isfinite(np.asarray(told)).all()
    drawn = np.random.default_rng(0).permutation(int(graph["cell"].num_nodes))
    strangers, counts = copy.copy(graph), to_scipy_csr(graph.counts("cell", "rna"))
    strangers["gene", "observed_in", "cell"].adj_t = to_torch_csr(counts[drawn])
    before = float(part.count_share)
    part.weight.fill_(shared_fit.weight_of_counts(graph.counts("patch", "rna").to_dense().double()))
    with torch.no_grad():
        shared_fit.set_departure(part, fitting_of(strangers, model, [fold_of(strangers, model)]))
    assert float(part.count_share) < before
