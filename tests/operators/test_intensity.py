"""Intensities as measured: what their unit and stain do not move, what they nest, and what held-out tissue chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from aivc_graph.errors import ModelError
from aivc_graph.evaluation.baselines.baseline import Scene
from aivc_graph.evaluation.baselines.neighbours import neighbour_mean
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.measurement.intensity_fit import _set_scatter
from aivc_graph.operators.part import AFTER_TRAINING, BEFORE_TRAINING
from aivc_graph.operators.state import Hidden
from aivc_graph.query.predictions import (
    drawn_log_expression,
    expected,
    expected_log_expression,
    measured_log_expression,
)
from tests.fitting import fit_stages, fitting_of, fold_of, model_of
from tests.imaged import COFACTOR, MARKERS, imaged

EDGES = GraphConfig(edges={"cell": {"kind": "knn", "k": 18}})
CONFIG = ModelConfig(latent=4, rings=(6, 18))
KEY = ("cell", "intensity")


def _fitted(graph: TissueGraph, config: ModelConfig = CONFIG, stages: tuple[str, ...] = BEFORE_TRAINING) -> TissueModel:
    model = model_of(graph, config)
    held_out = fold_of(graph, model, {"cell": graph.in_split("cell", "validation").numpy()})
    fit_stages(fitting_of(graph, model, [fold_of(graph, model)], [held_out]), stages)
    return model


@pytest.fixture(scope="module")
def graph(striped_section: Callable[..., Any]) -> TissueGraph:
    """Two sections, the second stained more strongly."""
    return build_graph(
        [imaged(striped_section, "a"), imaged(striped_section, "b", seed=1, donor="d2", brighter=0.7)], EDGES
    )


@pytest.fixture(scope="module")
def model(graph: TissueGraph) -> TissueModel:
    return _fitted(graph)


def _states(graph: TissueGraph, model: TissueModel) -> np.ndarray:
    with torch.no_grad():
        return model(model.prepare(graph)).z["cell"].numpy()


def test_intensities_alone_make_the_state(graph: TissueGraph, model: TissueModel) -> None:
    part = model.part("measurement", *KEY)
    assert model.state_maker("cell") is part and part.plan.first and model.latent == 4
    assert model.plan.panels == {"cell": {"intensity": tuple(MARKERS)}} and model.plan.counts == {}
    assert model.plan.expressed("cell") == "intensity" and model.plan.features == {}


def test_neither_the_unit_nor_a_stronger_stain_moves_the_state(striped_section: Callable[..., Any]) -> None:
    states = []
    for unit, brighter in ((1.0, 0.0), (40.0, 0.0), (1.0, 0.9)):
        given = EDGES.model_copy(update={"cofactor": unit * COFACTOR})
        more = {"unit": unit, "brighter": brighter}
        sections = [imaged(striped_section, "a"), imaged(striped_section, "b", seed=1, donor="d2", **more)]
        if unit != 1:
            sections[0] = imaged(striped_section, "a", unit=unit)
        graph = build_graph(sections, given)
        states.append(_states(graph, _fitted(graph)))
    np.testing.assert_allclose(states[1], states[0], atol=2e-3)
    np.testing.assert_allclose(states[2], states[0], atol=2e-3)


def test_a_decoder_of_nothing_expects_the_mean_profile_in_the_units_of_the_file(graph: TissueGraph) -> None:
    plain = model_of(graph, CONFIG)
    inputs = plain.prepare(graph)
    with torch.no_grad():
        state = plain(inputs)
        told = plain.expected(state, inputs, *KEY)
    cofactor, section = graph["cell"].intensity_cofactor.numpy(), graph["cell"].section_index.numpy()
    terms = np.arcsinh(graph["cell"].intensity.numpy() / cofactor)
    train = graph.in_split("cell", "train").numpy()
    for one in (0, 1):
        mean = terms[train & (section == one)].mean(axis=0)
        np.testing.assert_allclose(told.logs[section == one], np.tile(mean, ((section == one).sum(), 1)), atol=1e-4)
        np.testing.assert_allclose(told.shares[section == one][0], np.sinh(mean) * cofactor, rtol=1e-3)


def test_shown_markers_stand_in_for_hidden_ones(graph: TissueGraph, model: TissueModel) -> None:
    part, data = model.part("measurement", *KEY), model.prepare(graph).measured(*KEY)
    generator, sizes = np.random.default_rng(0), []
    with torch.no_grad():
        whole = part.encode(data)
        for _ in range(40):
            shown = torch.from_numpy((generator.random(len(MARKERS)) < 0.5).astype(np.float32))
            sizes.append(float((part.encode(data, shown) * whole).sum() / whole.square().sum()))
        fewer = part.precision(data, torch.tensor([1.0] * 6 + [0.0] * 6))
    assert abs(np.mean(sizes) - 1) < 0.2  # 0.5 if they were merely left out
    assert bool((fewer <= part.precision(data)).all()) and bool((fewer < part.precision(data)).any())


def test_the_noise_of_the_state_is_what_markers_of_one_truth_scatter_by(model: TissueModel) -> None:
    """A projection on an axis of unit length picks up the noise of a marker, 0.5² in arcsinh."""
    told = model.part("measurement", *KEY).log_precision.neg().exp()
    # The three leading axes carry the three factors; the last one has no factor of its own.
    np.testing.assert_allclose(told[:3], 0.25, rtol=0.5)


@pytest.mark.parametrize(("freedom", "heavy"), [(np.inf, False), (2.5, True)], ids=["normal", "heavy tails"])
def test_held_out_tissue_chooses_how_markers_scatter(graph: TissueGraph, freedom: float, heavy: bool) -> None:
    rng, part = np.random.default_rng(0), model_of(graph, CONFIG).part("measurement", *KEY)
    drawn = [rng.normal(size=(2000, 12)) if np.isinf(freedom) else rng.standard_t(freedom, (2000, 12)) for _ in "ab"]
    _set_scatter(part, "auto", 0.3 * drawn[0], 0.3 * drawn[1])
    assert bool(torch.isfinite(part.freedom).all()) == heavy
    np.testing.assert_allclose(part.log_scale.exp(), 0.3, rtol=0.15)
    if heavy:
        assert part.freedom.median() in (2.5, 4.0)


def test_the_scatter_is_as_said_and_normal_where_many_are_zero(striped_section: Callable[..., Any]) -> None:
    section = imaged(striped_section, "a", freedom=2.5)
    table = section.tables["cell_intensity"]
    said = ModelConfig(latent=4, rings=(6, 18), measurement={"intensity": {"kind": "intensity", "noise": "normal"}})
    assert torch.isinf(_fitted(build_graph([section], EDGES), said).part("measurement", *KEY).freedom).all()
    table.X = np.where(np.random.default_rng(0).random(table.X.shape) < 0.4, 0, table.X).astype(np.float32)
    graph = build_graph([section], EDGES)
    assert torch.isinf(_fitted(graph).part("measurement", *KEY).freedom).all()
    said = said.model_copy(update={"measurement": {"intensity": {"kind": "intensity", "noise": "student_t"}}})
    assert torch.isfinite(_fitted(graph, said).part("measurement", *KEY).freedom).all()


@pytest.fixture(scope="module")
def answered(graph: TissueGraph) -> TissueModel:
    return _fitted(graph, stages=(*BEFORE_TRAINING, *AFTER_TRAINING))


def _hidden(graph: TissueGraph) -> np.ndarray:
    rows = np.random.default_rng(5).random(int(graph["cell"].num_nodes)) < 0.25
    return rows & graph.in_split("cell", "validation").numpy()


def test_hidden_cells_are_told_better_than_by_the_mean_of_neighbours(graph: TissueGraph, answered: TissueModel) -> None:
    rows = np.random.default_rng(5).random(int(graph["cell"].num_nodes)) < 0.25
    left, true = hide_observations(graph, {KEY: rows}), measured_log_expression(answered, graph, "cell")
    section, pos = graph["cell"].section_index.numpy(), graph["cell"].pos.numpy()
    told = expected_log_expression(answered, left, "cell", rows)
    for k, share in ((6, 0.95), (13, 1.0)):  # of the 18 that are near a quarter is hidden
        around = neighbour_mean(Scene(true, ~rows, ~rows, rows, section, pos), k)
        assert around is not None
        assert ((told - true[rows]) ** 2).mean() < share * ((around - true[rows]) ** 2).mean()
    units = expected(answered, left, "cell", rows).shares.numpy()
    np.testing.assert_allclose(np.arcsinh(units / graph["cell"].intensity_cofactor.numpy()), told, rtol=1e-3, atol=1e-3)


def test_draws_scatter_and_vary_together_as_cells_do(graph: TissueGraph, answered: TissueModel) -> None:
    rows = _hidden(graph)
    left = hide_observations(graph, {KEY: rows})
    told = expected(answered, left, "cell", rows)
    true = measured_log_expression(answered, graph, "cell", rows)
    drawn = drawn_log_expression(answered, left, rows, told, np.ones(rows.sum()), "cell", np.arange(4), 200)
    below = (drawn < true[:, None, :4]).mean(axis=1)
    assert abs(below.mean() - 0.5) < 0.05 and abs(below.std() - 12**-0.5) < 0.06
    whole = np.corrcoef(true[:, :4].T)
    apart = np.corrcoef(drawn.reshape(-1, 4).T)
    np.testing.assert_allclose(apart, whole, atol=0.2)


def test_beside_counts_intensities_lead_into_their_state_and_are_told_from_them(
    striped_section: Callable[..., Any],
) -> None:
    sections = [imaged(striped_section, one, seed=i, donor=f"d{i}", keep_rna=True) for i, one in enumerate("ab")]
    graph = build_graph(sections, EDGES)
    model = _fitted(graph, stages=(*BEFORE_TRAINING, *AFTER_TRAINING))
    part = model.part("measurement", *KEY)
    assert model.state_maker("cell").plan.modality == "rna" and not part.plan.first
    assert model.plan.expressed("cell") == "rna"
    # Hidden counts: the state is read off the markers, in the axes of the counts.
    inputs = model.prepare(hide_observations(graph, {("cell", "rna"): np.ones(graph["cell"].num_nodes, bool)}))
    with torch.no_grad():
        alone, whole = (model.encode(one, Hidden()).z["cell"] for one in (inputs, model.prepare(graph)))
    assert np.corrcoef(alone[:, 0], whole[:, 0])[0, 1] > 0.5
    rows = _hidden(graph)
    left = hide_observations(graph, {KEY: rows})
    inputs = model.prepare(left)
    with torch.no_grad():
        told = model.expected(model(inputs), inputs, *KEY)
    true = np.arcsinh(graph["cell"].intensity.numpy() / graph["cell"].intensity_cofactor.numpy())
    error = ((told.logs.numpy()[rows] - true[rows]) ** 2).mean()
    assert error < 0.9 * true[rows].var(axis=0).mean()


def test_markers_of_other_cells_than_those_counted_have_no_meaning_in_their_state(
    striped_section: Callable[..., Any],
) -> None:
    one = imaged(striped_section, "a")
    graph = build_graph([one, striped_section("b", seed=1)], EDGES)
    with pytest.raises(ModelError, match="fewer than 10 training nodes with both rna and intensity"):
        _fitted(graph)


def test_a_marker_that_was_not_measured_is_the_mean_and_has_no_part_in_the_likelihood(graph: TissueGraph) -> None:
    holes = hide_observations(graph, {})
    values = graph["cell"].intensity.clone()
    values[3, 2] = torch.nan
    holes["cell"].intensity = values
    model = model_of(holes, CONFIG)
    part, data = model.part("measurement", *KEY), model.prepare(holes).measured(*KEY)
    assert float(data.standard[3, 2]) == 0.0 and bool(torch.isnan(data.observed[3, 2]))
    with torch.no_grad():
        lost = part.likelihood(torch.zeros(len(values), 4), data).log_prob(data.observed)
    assert float(lost[3, 2]) == 0.0 and bool(torch.isfinite(lost).all())


def test_cofactors_given_are_those_of_the_graph(striped_section: Callable[..., Any]) -> None:
    graph = build_graph([imaged(striped_section, "a")], EDGES.model_copy(update={"cofactor": {"M3": 5.0}}))
    found = graph["cell"].intensity_cofactor
    assert float(found[3]) == 5.0 and 0.1 * COFACTOR < float(found[0]) < 20 * COFACTOR
