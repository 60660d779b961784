"""A reference of dissociated cells: least squares at the start, opened by hidden molecules, honest about its width."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import nnls

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.model.plan import ModelPlan
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.composition import reference
from aivc_graph.operators.composition import reference_fit as fitting
from aivc_graph.operators.composition import reference_material as materials
from aivc_graph.operators.composition import reference_width as widths
from aivc_graph.operators.composition.composition import CompositionPlan, CompositionProject
from aivc_graph.operators.composition.mixture import Hill, Seen, least_squares, middle
from aivc_graph.operators.composition.reference import ReferenceComposition
from aivc_graph.operators.composition.reference_material import Material
from aivc_graph.operators.part import LAST_ANSWERS
from aivc_graph.tissue.doubt import doubts_heard
from tests.fitting import fit_stages, fitting_of, fold_of, model_of
from tests.reference import GENES, TYPES, cells_of, material, rates, reference_section, spot_section, spots_of

CONFIG = ModelConfig(latent=3, rings=(4,))
EDGES = GraphConfig(edges={"patch": {"kind": "knn", "k": 4}})


def plan_of(types: tuple[str, ...] = TYPES) -> CompositionPlan:
    genes = tuple(range(len(GENES)))
    return CompositionPlan(child="cell", parent="patch", types=types, of_child=genes, of_parent=genes, rings=(4,))


def fitted(found: Material, types: tuple[str, ...] = TYPES) -> ReferenceComposition:
    part = ReferenceComposition(plan_of(types))
    fitting.fit_to(part, found)
    return part


@pytest.fixture(scope="module")
def usual() -> tuple[ReferenceComposition, Material]:
    found = material(spots_of()[0], *cells_of())
    return fitted(found), found


def test_at_its_start_it_is_exactly_non_negative_least_squares() -> None:
    part, counts = ReferenceComposition(plan_of()), spots_of(n=20)[0]
    with torch.no_grad():
        part.profiles.copy_(torch.from_numpy(rates()))
        part.rates.copy_(part.profiles)
    plain = np.array([nnls(part.profiles.double().numpy().T, y)[0] for y in counts.astype(float)])
    told, lower, upper, _ = part(torch.from_numpy(counts))
    np.testing.assert_allclose(told, plain / plain.sum(axis=1, keepdims=True), atol=1e-6)
    assert (lower <= told).all() and (told <= upper).all()


def test_it_departs_as_far_as_hidden_molecules_ask(usual: tuple) -> None:
    assert int(usual[0].opened) >= 2
    cells, labels = cells_of(n=400)
    alike = material(spots_of(platform=0.0, depth=100.0)[0], cells, labels)
    part, (fresh, true) = fitted(alike), spots_of(platform=0.0, depth=100.0, seed=3)
    told, plain = part(torch.from_numpy(fresh))[0], least_squares(torch.from_numpy(fresh), part.profiles)
    assert float(((told - torch.from_numpy(true)) ** 2).mean()) < 1.05 * float(
        ((plain - torch.from_numpy(true)) ** 2).mean()
    )
    noise = material(np.random.default_rng(0).permutation(spots_of()[0].T).T.copy(), cells, labels)
    assert torch.isfinite(fitted(noise).rates).all()


def test_it_comes_nearer_to_the_truth_than_least_squares(usual: tuple) -> None:
    part, _ = usual
    counts, true = spots_of(n=200, seed=7)
    told, lower, upper, rest = part(torch.from_numpy(counts))
    plain = least_squares(torch.from_numpy(counts), part.profiles)
    errors = [float(((each - torch.from_numpy(true)) ** 2).mean()) for each in (told, plain)]
    assert errors[0] < 0.4 * errors[1]
    assert (lower <= told).all() and (told <= upper).all()
    assert float(rest.mean()) < 0.1


def test_rounds_go_on_only_where_stretches_agree_that_they_help() -> None:
    scores = np.zeros((3, 8))
    scores[1] = 1.0
    scores[2] = 1.0 + np.array([4, -3, 4, -3, 4, -3, 4, -3])
    assert fitting.plainest(scores) == 1  # better on average by half, and not surely
    scores[2] = 2.0
    assert fitting.plainest(scores) == 2


def test_fits_redrawn_go_on_for_longer_where_some_stretches_ask_for_it() -> None:
    scores = np.zeros((len(fitting.ROUNDS), 8))
    scores[1], scores[4] = 1.0, [2.5, 0.0] * 4
    drawn = fitting.best_again(scores)
    assert len(drawn) == widths.REDRAWN and set(drawn) == {4, 32}
    scores[1] = 3.0  # all agree
    assert fitting.best_again(scores) == [4] * widths.REDRAWN


def test_what_is_seen_of_rounds_drawn_differs_in_the_fits_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    found, seen = material(spots_of(n=60)[0], *cells_of()), []
    see = fitting.see
    monkeypatch.setattr(fitting, "best_again", lambda _: [2] * 6 + [8] * 6)
    monkeypatch.setattr(fitting, "see", lambda *given: seen.append(given[3]) or see(*given))
    fitted(found)
    assert seen[1:] == [2] * 6 + [8] * 6


def test_what_it_says_hangs_on_which_gene_is_which(usual: tuple) -> None:
    """Rewired, the reference's genes are other ones: it errs, leaves more unexplained, and is less sure."""
    part, found = usual
    order = torch.from_numpy(np.random.default_rng(3).permutation(len(GENES)))
    wrong = fitted(replace(found, cells=found.cells[:, order]))
    counts, true = (torch.from_numpy(each) for each in spots_of(n=100, seed=8))
    right, other = part(counts), wrong(counts)
    assert float(((other[0] - true) ** 2).mean()) > 3 * float(((right[0] - true) ** 2).mean())
    assert float(other[3].mean()) > 1.5 * float(right[3].mean())
    wider = ((other[2] - other[1]) - (right[2] - right[1])).mean(dim=1)  # spot by spot
    assert float(wider.mean()) > 5 * float(wider.std()) / len(wider) ** 0.5


def test_a_type_that_the_tissue_lacks_gets_next_to_nothing() -> None:
    random = np.random.default_rng(4)
    shares = np.column_stack([random.dirichlet(np.ones(3), 120), np.zeros(120)])
    counts = random.poisson(1500 * shares @ rates()).astype(np.float32)
    told, lower, _, _ = fitted(material(counts, *cells_of()))(torch.from_numpy(counts))
    assert float(told[:, 3].mean()) < 0.03 and float((lower[:, 3] == 0).float().mean()) > 0.9


def test_a_type_that_the_reference_lacks_is_told_as_unexplained() -> None:
    counts, true = spots_of(platform=0.0)
    cells, labels = cells_of()
    fewer, kept = TYPES[:3], labels != "D"
    rest = fitted(material(counts, cells[kept], labels[kept], fewer), fewer)(torch.from_numpy(counts))[3].numpy()
    assert np.corrcoef(rest, true[:, 3])[0, 1] > 0.4
    assert rest[true[:, 3] > 0.6].mean() > 2 * rest[true[:, 3] < 0.05].mean()


def test_one_cell_of_a_type_is_enough_to_answer() -> None:
    cells, labels = cells_of()
    kept = [*np.flatnonzero(labels != "D"), len(labels) - 1]
    counts, true = spots_of(n=60)
    told, lower, upper, _ = fitted(material(counts, cells[kept], labels[kept]))(torch.from_numpy(counts))
    assert np.corrcoef(told[:, 3], true[:, 3])[0, 1] > 0.8 and torch.isfinite(upper - lower).all()


def test_genes_that_were_not_measured_are_not_taken_for_zeros(usual: tuple) -> None:
    part, _ = usual
    counts, true = (torch.from_numpy(each) for each in spots_of(n=80, seed=6))
    there = torch.arange(len(GENES)) % 3 > 0
    blind = [part(counts * there, seen)[0] for seen in (there, None)]
    errors = [float(((each - true) ** 2).mean()) for each in blind]
    assert errors[0] < 0.5 * errors[1]


def test_neighbours_are_mixed_in_only_where_they_tell_something() -> None:
    random = np.random.default_rng(2)
    counts = np.repeat(spots_of(n=30, depth=30.0)[1], 4, axis=0)
    seen = random.poisson(30 * counts @ rates()).astype(np.float32)
    alike = sparse.block_diag([np.ones((4, 4)) - np.eye(4)] * 30, format="csr").astype(np.float32)
    order = random.permutation(len(seen))
    for near, helps in ((alike, True), (alike[order][:, order], False)):
        found = material(seen, *cells_of())
        part = ReferenceComposition(plan_of())
        with torch.no_grad():
            part.rates.copy_(torch.from_numpy(rates()).float())
            part.opened.fill_(1.0)
            fitting.choose_neighbours(part, replace(found, near=near))
        assert (float(part.neighbour_share) >= 0.2) is helps


@pytest.fixture(scope="module")
def sections() -> list[Any]:
    return [spot_section("s1", spots_of()[0]), reference_section(*cells_of())]


def model_and_graph(sections: list[Any]) -> tuple[TissueModel, Any]:
    graph = build_graph(sections, EDGES)
    model = model_of(graph, CONFIG)
    fit_stages(fitting_of(graph, model, [fold_of(graph, model)]), (LAST_ANSWERS,))
    return model, graph


def test_it_serves_where_labels_are_those_of_dissociated_cells_and_moves_every_number(sections: list[Any]) -> None:
    model, _ = model_and_graph(sections)
    (part,) = model.parts_of("composition")
    assert isinstance(part, ReferenceComposition) and part.plan.types == TYPES
    start = ReferenceComposition(part.plan)
    still = [name for name, value in part.named_buffers() if torch.equal(value, start.get_buffer(name))]
    assert set(still) <= {"neighbour_share"}  # seen to move below


def test_labelled_cells_beneath_the_spots_are_asked_before_a_reference(striped_section: Any) -> None:
    graph = build_graph([striped_section("s", levels=("cell", "patch"))], EDGES)
    members = [spec.part_class for spec in ModelPlan.of(graph, CONFIG).parts if spec.kind == "composition"]
    assert members == [CompositionProject]


def test_a_reference_of_logarithms_is_doubted_with_a_way_on(sections: list[Any]) -> None:
    logs = reference_section(*cells_of())
    table = logs.tables.pop("cell_rna")
    table.X = np.log1p(table.X.toarray())
    logs.tables["cell_log_expression"] = table
    with doubts_heard() as doubts:
        plan = ModelPlan.of(build_graph([sections[0], logs], EDGES), CONFIG)
    assert not plan.compositions
    assert any("logarithms alone" in one and "`layer:`" in one for one in doubts)


def test_spots_held_out_are_never_fitted_on(sections: list[Any]) -> None:
    first = model_and_graph(sections)[0].part("composition", "cell", "patch")
    counts = spots_of()[0]
    counts[96:] = counts[96:][:, ::-1]  # the last two rows: tested, and validating
    other = model_and_graph([spot_section("s1", counts), sections[1]])[0].part("composition", "cell", "patch")
    for name, value in first.named_buffers():
        torch.testing.assert_close(other.get_buffer(name), value, msg=name)


def spread_of(found: Material) -> float:
    """Return how far the fits redrawn lie apart, in the logarithms of their rates."""
    start = materials.profiles(found.cells, found.kind, len(TYPES))
    every = widths.redrawn(found, start, lambda profiles, trust, _: Seen(profiles, trust))
    return float(torch.stack([one.rates for one in every]).clamp_min(1e-9).log().std(dim=0).mean())


def test_profiles_are_redrawn_as_far_apart_as_donors_and_few_molecules_leave_open() -> None:
    counts, (cells, labels) = spots_of(platform=0.0)[0], cells_of()
    apart = cells.copy()
    apart[np.arange(len(labels)) % 2 == 0, :20] *= 6.0
    plain = spread_of(material(counts, cells, labels, donors=2))
    assert spread_of(material(counts, apart, labels, donors=2)) > 1.5 * plain
    assert spread_of(material(counts, cells[::10], labels[::10])) > 1.5 * plain


def test_genes_are_redrawn_by_weights_of_mean_one_and_the_same_each_time() -> None:
    found = material(spots_of()[0], *cells_of())
    start = materials.profiles(found.cells, found.kind, len(TYPES))
    first, again = (widths.redrawn(found, start, lambda profiles, trust, _: Seen(profiles, trust)) for _ in range(2))
    assert len(first) == widths.REDRAWN
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.weight, other.weight) and torch.equal(one.rates, other.rates)
        assert float(one.weight.mean()) == pytest.approx(1.0, abs=1e-5)
    spread = torch.stack([one.weight for one in first]).std()
    assert 0.8 < float(spread) < 1.2  # of an exponential: one


def test_the_interval_of_so_few_fits_holds_most_of_where_they_alone_differ() -> None:
    """Not nine of ten: the least and the greatest of twelve have 11 of 13 between them."""
    random = np.random.default_rng(0)
    each, (number, _) = random.normal(size=(4000, widths.REDRAWN, 1)), widths.DRAWS_OF_EACH
    for noise in (0.3, 0.6):
        seen = random.normal(size=(4000, widths.REDRAWN, number)) * noise
        true = 10.0 + random.normal(size=4000) * np.hypot(1.0, noise)  # far from the edge at zero
        lower, upper = middle(torch.from_numpy((10.0 + each + seen).reshape(4000, 1, -1)))
        assert 0.81 < inside(lower[:, 0], upper[:, 0], true) < 0.9


def test_each_fit_redrawn_is_drawn_by_numbers_of_its_own(usual: tuple) -> None:
    part, found = usual
    counts, seen = found.patches[:5], Seen(part.rates, part.weight)
    hill = Hill.of(counts * seen.weight, seen.rates * seen.weight)
    every = widths.wide_draws(hill, counts, [seen, seen], part.prior, hill.draws(part.prior)[:, :, -1])
    first, second = every.split(widths.DRAWS_OF_EACH[0], dim=2)
    assert first.shape == second.shape and not torch.allclose(first, second)


def test_an_interval_that_would_begin_below_half_a_cell_begins_at_none(usual: tuple) -> None:
    part, found = usual
    _, lower, upper, _ = part(found.patches)
    assert bool(((lower == 0) | (lower >= 0.5 / widths.CELLS)).all()) and float((lower == 0).float().mean()) > 0.2
    assert widths.from_none(torch.tensor([-0.1, 0.06, 0.07])).tolist() == pytest.approx([0.0, 0.0, 0.07])
    assert bool((upper > lower).all())


def departing(seed: int, departure: float) -> tuple[np.ndarray, np.ndarray]:
    """Return counts of spots whose types depart from the reference, gene by gene, and their true shares."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(len(TYPES), 0.6), 150)
    own = rates() * np.exp(np.random.default_rng(seed + 50).normal(0, departure, (len(TYPES), len(GENES))))
    return random.poisson(3000 * shares @ (own / own.sum(axis=1, keepdims=True))).astype(np.float32), shares


def test_intervals_hold_where_the_tissue_departs_from_the_reference() -> None:
    """Without the fits redrawn they hold far less."""
    held, narrow, everything = [], [], torch.ones(len(GENES), dtype=torch.bool)
    for seed in (1, 2, 3):
        counts, true = departing(seed, 0.5)
        part = fitted(material(counts, *cells_of()))
        _, lower, upper, _ = part(torch.from_numpy(counts))
        held.append(inside(lower, upper, true))
        narrow.append(inside(*middle(part.draws(torch.from_numpy(counts), everything)[1]), true))
    assert np.mean(held) > 0.82
    assert np.mean(narrow) < np.mean(held) - 0.15


def inside(lower: torch.Tensor, upper: torch.Tensor, true: np.ndarray) -> float:
    return float(((lower.numpy() <= true + 1e-6) & (true <= upper.numpy() + 1e-6)).mean())


def test_donors_that_differ_leave_profiles_open_and_few_molecules_do() -> None:
    counts, (cells, labels) = spots_of()[0], cells_of(n=60)
    one = materials.surety(material(counts, cells, labels), 4)
    alike = materials.surety(material(counts, cells, labels, donors=3), 4)
    apart = cells.copy()
    donor = np.arange(len(labels)) % 3
    apart *= np.exp(np.random.default_rng(0).normal(0, 0.6, (3, len(GENES))))[donor].astype(np.float32)
    differ = materials.surety(material(counts, apart, labels, donors=3), 4)
    assert float(differ.median()) < 10 < 50 < float(alike.median()) <= float(one.median()) < 300
    few = materials.surety(material(counts, cells[:1] * 0 + 1, labels[:1]), 4)
    assert float(few.max()) < 2.0


def test_a_gene_in_which_tissue_and_reference_disagree_is_weighed_out() -> None:
    counts, true = spots_of(platform=0.0)
    strange = counts.copy()
    strange[:, 0] += 300 * (np.random.default_rng(0).random(len(counts)) < 0.3)
    part = fitted(material(strange, *cells_of()))
    assert float(part.weight[0]) < 0.05 < 0.2 < float(part.weight[1:].median())
    told = part(torch.from_numpy(strange))[0]
    assert np.sqrt(((told.numpy() - true) ** 2).mean()) < 0.06


def test_it_keeps_the_genes_that_tell_types_apart(sections: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "MOST_GENES", 25)
    part = model_and_graph(sections)[0].part("composition", "cell", "patch")
    assert part.rates.shape == (4, 25) and len(set(part.genes.tolist())) == 25
    logs = np.log1p(1e4 * rates()[:, np.argsort(GENES)])  # as a graph has them
    spread = logs.max(axis=0) - np.median(logs, axis=0)
    assert spread[part.genes.numpy()].mean() > 1.3 * spread.mean()


def test_intervals_hold_the_truth_where_the_platforms_agree() -> None:
    """Where they are uneven, factors go part of the way only, and intervals are too narrow."""
    part = fitted(material(spots_of(platform=0.0)[0], *cells_of()))
    counts, true = spots_of(n=200, seed=7, platform=0.0)
    _, lower, upper, _ = part(torch.from_numpy(counts))
    assert 0.85 < inside(lower, upper, true) < 0.97


@pytest.mark.parametrize("each", [1, 3])
def test_with_few_cells_of_a_type_intervals_are_wider(each: int) -> None:
    counts = spots_of(n=40)[0]
    widths_of = []
    for n in (each, 60):
        told, lower, upper, _ = fitted(material(counts, *cells_of(n=n, depth=40.0)))(torch.from_numpy(counts))
        assert bool((lower <= told).all() and (told <= upper).all())
        widths_of.append(float((upper - lower).mean()))
    assert widths_of[0] > 1.2 * widths_of[1]


def test_of_few_spots_intervals_are_wide_and_it_says_so() -> None:
    counts = spots_of(n=5)[0]
    with doubts_heard() as doubts:
        _, lower, upper, _ = fitted(material(counts, *cells_of()))(torch.from_numpy(counts))
    assert any("5 patches" in one and "more tissue" in one for one in doubts)
    assert float((upper - lower).max(dim=1).values.mean()) > 0.5


def test_a_reference_of_one_type_is_doubted_with_a_way_on(sections: list[Any]) -> None:
    counts, labels = cells_of(n=5)
    with doubts_heard() as doubts:
        plan = ModelPlan.of(
            build_graph([sections[0], reference_section(counts, np.repeat("T", len(labels)))], EDGES), CONFIG
        )
    assert not plan.compositions
    assert any("all are 'T'" in one and "two types" in one for one in doubts)
