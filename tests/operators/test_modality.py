"""A modality is told from another at least as well as by every rule, from training cells alone, never from itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse

from aivc_graph.evaluation.baselines.baseline import Scene, run_baselines
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.terms import dense, in_terms, raw_values
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.gate import Gate, shut
from aivc_graph.operators.prediction import modality_map, modality_rules
from aivc_graph.operators.prediction.modality import ModalityPrediction
from aivc_graph.operators.prediction.modality_map import MapPlan, ModalityMap
from aivc_graph.operators.prediction.modality_rules import BEFOREHAND, RULES, Cells, ground_of, rules
from aivc_graph.operators.stacking import shares_of_rules
from aivc_graph.operators.state import Hidden
from aivc_graph.query.predictions import told_by_others
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_cells, add_level, add_observation, new_section
from aivc_graph.training.checkpoint import load_model, save_model
from aivc_graph.training.places import new_donors
from tests.fitting import fit_stages, fitting_of, fold_of, model_of

N, FEATURES, TARGETS = 320, 60, 12
CONFIG = ModelConfig(latent=3)


def cells(shape: str, n_donors: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, targets and donors of cells of six states; targets are linear in the state or step with it."""
    rng = np.random.default_rng(seed)
    state = np.eye(6)[rng.integers(0, 6, N)] @ rng.normal(size=(6, 8)) + 0.4 * rng.normal(size=(N, 8))
    x = state @ rng.normal(size=(8, FEATURES)) + rng.normal(size=(N, FEATURES))
    wanted = state @ rng.normal(size=(8, TARGETS))
    y = wanted if shape == "linear" else 4.0 * (np.abs(wanted) > 2.0)
    return x, y + 0.5 * rng.normal(size=y.shape), np.sort(np.arange(N) % n_donors)


def told(x: Any, y: Any, train: np.ndarray, donor: np.ndarray, state: np.ndarray | None = None) -> Any:
    """Return what a fitted map says of the cells that do not train; None where nothing was fitted."""
    state = np.zeros((len(train), 2)) if state is None else state
    plan = MapPlan(
        modality="rna", n_features=x.shape[1], depth=1.0, n_cells=int(train.sum()), n_targets=y.shape[1],
        latent=state.shape[1],
    )  # fmt: skip
    fitted = ModalityMap(plan)
    fitted.fit(x[train], state[train], y[train], donor[train])
    return fitted(x[~train], state[~train]) if fitted.fitted else None


def scene(x: np.ndarray, y: np.ndarray, train: np.ndarray, donor: np.ndarray) -> Scene:
    nobody = np.zeros(len(train), bool)
    return Scene(y, train, nobody, ~train, donor, np.zeros((len(train), 2)), features=x, comparable=True)


@pytest.mark.parametrize("n_donors", [2, 4])
@pytest.mark.parametrize("shape", ["linear", "steps"])
def test_it_is_at_or_below_the_error_of_every_rule(shape: str, n_donors: int) -> None:
    x, y, donor = cells(shape, n_donors)
    train = donor < n_donors - 1
    answers = run_baselines(scene(x, y, train, donor), "modality") | {"model": told(x, y, train, donor)}
    found = {name: float(((said - y[~train]) ** 2).mean()) for name, said in answers.items()}
    assert set(found) == {"model", "ridge", "kernel_ridge_of_features", "knn_of_features", "global_mean"}
    assert found["model"] <= 1.005 * min(found.values())
    if shape == "steps":
        assert found["model"] < 0.9 * found["ridge"]


def test_without_other_evidence_it_is_ridge(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, donor = cells("steps", 4)
    train = donor < 3
    monkeypatch.setattr(modality_rules, "FOR_BEFOREHAND", 1e9)
    ridge = run_baselines(scene(x, y, train, donor), "modality")["ridge"]
    np.testing.assert_allclose(told(x, y, train, donor), ridge, atol=1e-3)


def test_rules_are_those_of_the_baselines() -> None:
    x, y, donor = cells("steps")
    train = donor == 0
    beside = run_baselines(scene(x, y, train, donor), "modality")
    known, asked = (Cells(x[rows], np.zeros((rows.sum(), 1)), y[rows]) for rows in (train, ~train))
    learned, ground = known.less(known), ground_of(known.less(known))
    said = dict(zip(RULES, rules(learned, ground, (1.0, 1.0, 1.0)), strict=True))
    for rule, baseline in (
        ("kernel ridge", "kernel_ridge_of_features"),
        ("nearest cells", "knn_of_features"),
        ("mean", "global_mean"),
    ):
        own = said[rule](asked.less(known), ground) + y[train].mean(axis=0)
        np.testing.assert_allclose(own, beside[baseline], atol=1e-9, err_msg=rule)


def test_what_the_state_alone_knows_is_told() -> None:
    """As where neighbours of a cell know what its own features do not."""
    x, y, donor = cells("linear", 4)
    train, state = donor < 3, y[:, :4] + 0.1 * np.random.default_rng(1).normal(size=(N, 4))
    noise = np.random.default_rng(2).normal(size=x.shape)
    error, mean = (
        float(((said - y[~train]) ** 2)[:, :4].mean())
        for said in (told(noise, y, train, donor, state), y[train].mean(axis=0))
    )
    assert error < 0.1 * mean


def test_targets_of_other_cells_are_not_read_and_forty_must_train() -> None:
    x, y, donor = cells("linear", 3)
    train = donor < 2
    one, other = (np.where(train[:, None], y, value) for value in (np.nan, 9.0))
    np.testing.assert_array_equal(told(x, one, train, donor), told(x, other, train, donor))
    assert told(x, one, np.arange(N) < 39, donor) is None and told(x, y, np.arange(N) < 40, donor) is not None


def test_one_donor_of_nearly_all_cells_is_no_group_to_leave_out() -> None:
    few = np.where(np.arange(N) < 5, 0, 1)
    assert len(np.unique(modality_rules.folds(few))) == 5 == len(np.unique(modality_rules.folds(np.zeros(N, int))))


def test_wide_features_and_targets_are_told_through_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sparse input gives what dense input gives, and components what all features give."""
    x, y, donor = cells("linear", 4)
    train = donor < 3
    whole = told(x, y, train, donor)
    monkeypatch.setattr(modality_map, "MOST_FEATURES", 20)
    monkeypatch.setattr(modality_map, "FEATURE_AXES", 59)
    np.testing.assert_allclose(told(sparse.csr_matrix(x), y, train, donor), whole, atol=0.05 * y.std())
    monkeypatch.setattr(modality_map, "MOST_TARGETS", 4)
    monkeypatch.setattr(modality_map, "TARGET_AXES", 9)
    reduced = told(sparse.csr_matrix(x), sparse.csr_matrix(y), train, donor)
    assert ((reduced - y[~train]) ** 2).mean() < 1.1 * ((whole - y[~train]) ** 2).mean()


def test_noise_in_many_targets_gets_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Axes lie as the noise of all cells does: rules that are judged along them follow it."""
    rng, n = np.random.default_rng(4), 200
    x, y, donor = rng.normal(size=(n, 40)), rng.normal(size=(n, 600)), np.arange(n) % 4
    plan = MapPlan(modality="rna", n_features=40, depth=1.0, n_cells=n, n_targets=600, latent=2)
    monkeypatch.setattr(modality_map, "TARGET_AXES", 40)
    errors = []
    for along_axes in (False, True):
        if along_axes:
            monkeypatch.setattr(ModalityMap, "_judged", lambda self, told, y, mean, state: told)
        fitted = ModalityMap(plan)
        fitted.fit(x, np.zeros((n, 2)), y, donor)
        errors.append(float(fitted.error))
        spread = float((fitted(x, np.zeros((n, 2))) - y.mean(axis=0)).var())
        assert spread < 0.01 if not along_axes else spread > 0.04
    assert errors[0] > 0.97 and errors[1] < 0.9


def test_kernel_rules_are_told_whole_where_targets_are_many() -> None:
    x, few, donor = cells("steps", 4)
    y, train = np.hstack([few] * 50), donor < 3
    whole, wide = told(x, few, train, donor), told(x, y, train, donor)
    assert ((wide[:, :TARGETS] - few[~train]) ** 2).mean() < 1.02 * ((whole - few[~train]) ** 2).mean()


def test_weights_of_rules_are_the_best_shares_and_ties_stay() -> None:
    rng = np.random.default_rng(0)
    said = rng.normal(size=(len(RULES), 500))
    wanted = np.zeros(len(RULES))
    wanted[[1, 3]] = 0.3, 0.7
    found = shares_of_rules(said @ said.T, said @ (wanted @ said), BEFOREHAND)
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    alike = np.ones((len(RULES), len(RULES)))
    np.testing.assert_allclose(shares_of_rules(alike, alike[0], BEFOREHAND), BEFOREHAND, atol=1e-3)
    np.testing.assert_array_equal(shares_of_rules(0 * alike, 0 * alike[0], BEFOREHAND), BEFOREHAND)


def multiome(n: int = 60, donors: tuple[str, ...] = ("d0", "d1", "d2"), without: tuple[str, ...] = ()) -> list[Any]:
    """Return dissociated sections with RNA, protein and chromatin of three kinds of cells; the last one `without`."""
    found = []
    for i, donor in enumerate(donors):
        rng = np.random.default_rng(i)
        section, kind = new_section(donor, donor=donor), rng.integers(0, 3, n)
        names = [f"{donor}-{j}" for j in range(n)]
        add_cells(section, names, None)
        for modality, k in (("rna", 30), ("protein", 12), ("atac", 40)):
            if modality in without and donor == donors[-1]:
                continue
            rate = 6.0 * np.random.default_rng(k).gamma(0.7, 1.0, (3, k))
            table = ad.AnnData(sparse.csr_matrix(rng.poisson(rate[kind]).astype(np.float32) + (np.arange(k) == 0)))
            table.obs_names, table.var_names = names, [f"{modality}{j}" for j in range(k)]
            add_observation(section, "cell", modality, table)
        found.append(section)
    return found


def graph_of(sections: list[Any], test: str | None = "d2") -> TissueGraph:
    for section in sections:
        section.shapes["cell"]["split"] = "test" if section.shapes["cell"].index[0].startswith(str(test)) else "train"
    return build_graph(sections)


@pytest.fixture(scope="module")
def fitted() -> tuple[TissueGraph, TissueModel]:
    graph = graph_of(multiome())
    model = model_of(graph, CONFIG)
    fit_stages(
        fitting_of(graph, model, [fold_of(graph, model)]),
        ("encoders", "further encoders", "messages", "decoders", "answers", "last answers"),
    )
    return graph, model


def hidden(graph: TissueGraph, *modalities: str) -> TissueGraph:
    test = graph.in_split("cell", "test").numpy()
    return hide_observations(graph, {("cell", one): test for one in modalities})


def test_each_modality_is_told_from_each_other_and_never_from_itself(fitted: tuple[TissueGraph, TissueModel]) -> None:
    graph, model = fitted
    test = graph.in_split("cell", "test").numpy()
    whole = told_by_others(model, hidden(graph, "protein"), "cell", "protein", test)
    from_rna = told_by_others(model, hidden(graph, "protein", "atac"), "cell", "protein", test)
    assert np.isfinite(whole).all() and not np.array_equal(whole, from_rna)
    assert np.isnan(told_by_others(model, hidden(graph, "protein", "atac", "rna"), "cell", "protein", test)).all()
    counts = hidden(graph, "protein", "atac")
    counts["protein", "observed_in", "cell"].adj_t.values().mul_(2)  # of training cells: what is told stays
    np.testing.assert_array_equal(told_by_others(model, counts, "cell", "protein", test), from_rna)


def test_expected_shares_of_a_cell_come_from_its_other_modality(fitted: tuple[TissueGraph, TissueModel]) -> None:
    graph, model = fitted
    test = graph.in_split("cell", "test").numpy()
    inputs = model.prepare(hidden(graph, "protein"))
    with torch.no_grad():
        state = model(inputs)
        said = model.expected(state, inputs, "cell", "protein")
        decoded = model.decoded(state, inputs, "cell", "protein")
        own = model.expected(model(model.prepare(graph)), model.prepare(graph), "cell", "protein")
    assert said.looked_at.numpy()[test].all() and not said.looked_at.numpy()[~test].any()
    torch.testing.assert_close(said.shares[~test], decoded[~test])
    torch.testing.assert_close(said.shares.sum(dim=1), torch.ones(len(test)))
    counts = graph.counts("cell", "protein").to_dense()[test]
    true = counts / counts.sum(dim=1, keepdim=True)
    mean = true.mean(dim=0)
    assert float(((said.shares[test] - true) ** 2).mean()) < 0.5 * float(((mean - true) ** 2).mean())
    assert not own.looked_at.any()


def test_it_is_kept_with_the_model_and_windows_are_the_whole(
    fitted: tuple[TissueGraph, TissueModel], tmp_path: Path
) -> None:
    graph, model = fitted
    (tmp_path / "run").mkdir()
    save_model(model, tmp_path / "run")
    again, test = load_model(tmp_path / "run"), graph.in_split("cell", "test").numpy()
    left = hidden(graph, "protein")
    np.testing.assert_array_equal(
        told_by_others(again, left, "cell", "protein", test), told_by_others(model, left, "cell", "protein", test)
    )


def test_order_of_nodes_and_molecules_does_not_matter(fitted: tuple[TissueGraph, TissueModel]) -> None:
    graph, model = fitted
    part = model.part("prediction", "cell", "others", "protein")
    inputs = model.prepare(hidden(graph, "protein"))
    with torch.no_grad():
        state = model(inputs)
        found, who = part.told(state, inputs)
        some = torch.zeros(len(who), dtype=torch.bool)
        some[[5, 170, 171]] = True
        few, of = part.told(state, inputs, some)
    np.testing.assert_allclose(few[of], found[of], atol=1e-5)
    assert of.sum() == 3 and who.all()


def test_before_it_is_fitted_and_with_few_cells_it_says_nothing() -> None:
    graph = graph_of(multiome(n=12), "d2")  # 24 train
    model = model_of(graph, CONFIG)
    part, test = model.part("prediction", "cell", "others", "protein"), graph.in_split("cell", "test").numpy()
    assert isinstance(part, ModalityPrediction)
    fitting = fitting_of(graph, model, [fold_of(graph, model)])
    for _ in range(2):
        assert told_by_others(model, hidden(graph, "protein"), "cell", "protein", test) is None
        inputs = model.prepare(hidden(graph, "protein"))
        with torch.no_grad():
            assert not part.speaks(model(inputs), inputs).any()
            part.fit(fitting)


def test_a_level_with_one_modality_has_no_such_part(striped_section: Callable[..., Any]) -> None:
    graph = build_graph([striped_section("s1", levels=("cell", "patch"))])
    kinds = [type(one) for one in model_of(graph, CONFIG).parts_of("prediction")]
    assert ModalityPrediction not in kinds


def test_features_that_were_not_measured_are_as_on_average() -> None:
    x, y, donor = cells("linear", 3)
    train, state = donor < 2, np.zeros((N, 2))
    plan = MapPlan(modality="rna", n_features=FEATURES, depth=1.0, n_cells=N, n_targets=TARGETS, latent=2)
    fitted = ModalityMap(plan)
    fitted.fit(x[train], state[train], y[train], donor[train])
    known = np.broadcast_to(np.arange(FEATURES) < 40, x.shape)
    filled = np.where(known, x, x[train].mean(axis=0))
    np.testing.assert_allclose(fitted(np.where(known, x, 99.0), state, known), fitted(filled, state), atol=1e-4)
    nothing = fitted(x, state, np.zeros_like(known))
    assert np.ptp(nothing, axis=0).max() < 1e-9


def test_a_state_that_was_taught_the_targets_of_training_cells_does_not_get_the_word() -> None:
    """Gradient leads the states of training cells to their targets; what weights are chosen by has no part in it."""
    x, y, donor = cells("linear", 4)
    train, rng = donor < 3, np.random.default_rng(3)
    unlearnt = rng.normal(size=(N, TARGETS))
    taught = np.where(train[:, None], y, unlearnt)
    plan = MapPlan(modality="rna", n_features=FEATURES, depth=1.0, n_cells=N, n_targets=TARGETS, latent=TARGETS)
    errors = {}
    for name, judged_by in (("judged by itself", None), ("judged by what was not taught", unlearnt[train])):
        fitted = ModalityMap(plan)
        fitted.fit(x[train], taught[train], y[train], donor[train], judged_by)
        errors[name] = float(((fitted(x[~train], taught[~train]) - y[~train]) ** 2).mean())
    ridge = float(((run_baselines(scene(x, y, train, donor), "modality")["ridge"] - y[~train]) ** 2).mean())
    assert errors["judged by what was not taught"] < 1.1 * ridge < 0.5 * errors["judged by itself"]


def test_what_gradient_taught_is_let_through_again_after_weights_are_chosen(
    fitted: tuple[TissueGraph, TissueModel],
) -> None:
    graph, model = fitted
    part = model.part("prediction", "cell", "others", "protein")
    gates = [one for one in model.modules() if isinstance(one, Gate)]
    with shut(model):
        assert gates and not any(bool(gate.opening.any()) for gate in gates)
    assert all(bool((gate.opening == 1).all()) for gate in gates)
    weight = part.maps["rna"].of_state.clone()
    with torch.no_grad():
        part.fit(fitting_of(graph, model, [fold_of(graph, model)]))
    torch.testing.assert_close(part.maps["rna"].of_state, weight)
    assert all(bool((gate.opening == 1).all()) for gate in gates)


def test_the_state_is_not_heard_of_another_donor_where_one_alone_trains() -> None:
    """A state is about the mean of its section; what that costs elsewhere is seen where donors can be left out."""
    for donors, asked, heard in ((("d0", "d2"), "d2", False), (("d0", "d1", "d2"), "d2", True), (("d0",), None, True)):
        graph = graph_of(multiome(donors=donors), asked)
        model = model_of(graph, CONFIG)
        code = new_donors(graph, ("cell",))
        fitting = replace(fitting_of(graph, model, [fold_of(graph, model)]), new_donor=code)
        fit_stages(fitting, ("encoders", "further encoders", "messages", "decoders", "answers", "last answers"))
        weight = model.part("prediction", "cell", "others", "protein").maps["rna"].of_state
        assert bool(weight.any()) == heard, donors


@pytest.mark.parametrize("telling", ["neighbours", "protein"])
def test_what_neighbours_tell_better_than_another_modality_does_is_left_to_them(telling: str) -> None:
    """Proteins that know nothing of smooth tissue are not heard of it; those that know all of mixed tissue are."""
    rng, side = np.random.default_rng(0), 16
    pos = 12.0 * np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    smooth, mixed = (pos[:, 0] > pos[:, 0].mean()).astype(int), rng.integers(0, 2, len(pos))
    of_rna = smooth if telling == "neighbours" else mixed
    section, names = new_section("s"), [f"c{i}" for i in range(len(pos))]
    add_level(section, "cell", names, pos, 5.0, scale_affine(1.0))
    for modality, kind, k in (("rna", of_rna, 30), ("protein", mixed, 12)):
        rate = 6.0 * np.random.default_rng(k).gamma(0.7, 1.0, (2, k))
        table = ad.AnnData(sparse.csr_matrix(rng.poisson(rate[kind]).astype(np.float32) + (np.arange(k) == 0)))
        table.obs_names, table.var_names = names, [f"{modality}{j}" for j in range(k)]
        add_observation(section, "cell", modality, table)
    section.shapes["cell"]["split"] = "train"
    graph = build_graph([section], GraphConfig(edges={"cell": {"kind": "knn", "k": 6}}))
    model = model_of(graph, CONFIG)
    fit_stages(
        fitting_of(graph, model, [fold_of(graph, model)]),
        ("encoders", "further encoders", "messages", "decoders", "answers", "last answers"),
    )
    part = model.part("prediction", "cell", "others", "rna")
    inputs = model.prepare(graph)
    hidden = torch.from_numpy(rng.random(len(pos)) < 0.25).float()
    with torch.no_grad():
        state = model(inputs, Hidden(nodes={("cell", "rna"): hidden}))
        told, without = (model.expected(state, inputs, "cell", "rna", without=one) for one in (None, part))
    asked = hidden > 0
    assert without.around[asked].all() and float(part.around_error) < 1.1
    true = torch.from_numpy(dense(in_terms(raw_values(graph, "cell", "rna"), "rna", part.plan.depth)))
    errors = [float(((one.logs - true)[asked] ** 2).mean()) for one in (told, without)]
    if telling == "neighbours":
        torch.testing.assert_close(told.logs[asked], without.logs[asked])
    else:
        assert errors[0] < 0.8 * errors[1]
