"""Every readout: the truth read out is best by its own metrics; order and place of nodes do not matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import sqrtm
from scipy.spatial import cKDTree

from aivc_graph.evaluation.intervals import Halves, Units, estimate
from aivc_graph.evaluation.metrics.metric import METRICS, metric
from aivc_graph.evaluation.readouts.called_genes import called_genes
from aivc_graph.evaluation.readouts.endpoint import endpoint
from aivc_graph.evaluation.readouts.footprints import Footprints
from aivc_graph.evaluation.readouts.neighbourhood import neighbourhood, root_covariance
from aivc_graph.evaluation.readouts.niche_composition import niche_composition
from aivc_graph.evaluation.readouts.niche_rule import NicheRule
from aivc_graph.evaluation.readouts.readout import READOUTS, Ground, lacking, read_out, readouts_for
from aivc_graph.evaluation.scoring import Scored, score

NODES, GENES, SECTIONS = 90, 12, 12
STRIPE = np.arange(NODES) // 30
ASKED = np.arange(NODES) % 2 == 0
POS = np.column_stack([STRIPE * 100.0, np.zeros(NODES)]) + np.random.default_rng(1).random((NODES, 2)) * 100
LOG = np.random.default_rng(0).normal(size=(NODES, GENES)) * 0.3
LOG[np.arange(NODES), STRIPE] += 3.0
WEIGHTS = pd.DataFrame({"source": "up", "target": [f"G{i}" for i in range(6)], "weight": np.arange(6.0)})


def ground(order: np.ndarray | None = None, pos: np.ndarray = POS) -> Ground:
    """Return ground for every readout; nodes come in another `order`, and lie at `pos`."""
    order = np.arange(NODES) if order is None else order
    log, asked, pos, stripe = LOG[order], ASKED[order], pos[order], STRIPE[order]
    near = cKDTree(pos).query(pos[asked], k=6)[1]
    around = LOG[cKDTree(POS).query(POS[~ASKED], k=6)[1]].mean(axis=1)
    own = np.zeros((3, GENES), bool)
    own[:, -1] = True
    return Ground(
        footprints=Footprints(WEIGHTS, [f"G{i}" for i in range(GENES)]),
        peers=cKDTree(pos[asked]).query(pos[asked], k=8)[1],
        centre=LOG[~ASKED].mean(axis=0),
        known=np.where(asked[:, None], np.nan, log),
        asked=asked,
        near=near,
        niches=NicheRule(around - LOG.mean(axis=0), STRIPE[~ASKED]),
        section=np.zeros(NODES, int),
        group=stripe[asked],
        base=np.exp(log[asked]) * 100,
        own=own,
        donor=np.arange(SECTIONS) // 2,
        outcome=np.arange(SECTIONS) // 2 % 2,
    )


def values(name: str) -> np.ndarray:
    if "composition" in READOUTS.facts[name]["reads"]:  # type: ignore[operator]
        stage = (np.arange(SECTIONS) // 2 % 2)[:, None]
        return np.hstack([0.2 + 0.6 * stage, 0.8 - 0.6 * stage])
    return LOG[ASKED] * (100.0 if name == "called_genes" else 1.0)


def distance(name: str, one: Any, other: Any, which: str) -> float:
    judge, n = metric(which), 3 if name in ("niche_composition", "called_genes") else len(values(name))
    group = np.arange(n) % 2
    return judge.value(judge.statistics(one, other, group, 2, np.zeros(n, int)).sum(axis=0))


@pytest.mark.parametrize("name", sorted(READOUTS))
def test_the_truth_read_out_is_best_and_noise_is_not(name: str) -> None:
    true = READOUTS[name](values(name), ground())
    off = READOUTS[name](np.roll(values(name), 3, axis=0)[::-1] * 0.5, ground())
    for which in READOUTS.facts[name]["metrics"]:  # type: ignore[attr-defined]
        best = METRICS.facts[which]["best"]
        assert distance(name, true, true, which) == pytest.approx(best, abs=1e-7)
        assert abs(distance(name, off, true, which) - float(best)) > 0.01  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(READOUTS))
def test_it_states_its_facts_and_changes_nothing_it_is_given(name: str) -> None:
    facts = {"reads", "needs", "metrics", "formula", "reference", "weakness"}
    assert facts == set(READOUTS.facts[name])
    given, stand = values(name), ground()
    before = given.copy(), None if stand.known is None else stand.known.copy()
    READOUTS[name](given, stand)
    np.testing.assert_array_equal(given, before[0])
    np.testing.assert_array_equal(stand.known, before[1])
    for field in READOUTS.facts[name]["needs"]:  # type: ignore[attr-defined]
        assert lacking(name, replace(stand, **{field: None})) == [field]
        kind = READOUTS.facts[name]["reads"][0]  # type: ignore[index]
        assert name in readouts_for(kind, stand) and name not in readouts_for(kind, replace(stand, **{field: None}))


def plain(found: Any) -> np.ndarray:
    return found.differential.lfc if hasattr(found, "differential") else found


@pytest.mark.parametrize("name", ["genes", "pathways", "neighbourhood", "niche_composition", "called_genes"])
def test_order_of_nodes_and_motion_of_the_section_do_not_matter(name: str) -> None:
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    expected = plain(READOUTS[name](LOG[ASKED], ground()))
    moved = plain(READOUTS[name](LOG[ASKED], ground(pos=POS @ turn.T + [500.0, -80.0])))
    np.testing.assert_allclose(moved, expected, atol=1e-10)
    order = np.random.default_rng(3).permutation(NODES)
    again = plain(READOUTS[name](LOG[order][ASKED[order]], ground(order)))
    if name in ("niche_composition", "called_genes"):  # a row a stripe
        np.testing.assert_allclose(again, expected, atol=1e-10)
    else:
        np.testing.assert_allclose(again[np.argsort(order[ASKED[order]])], expected, atol=1e-10)


def test_square_roots_are_those_of_brute_force() -> None:
    shifted = np.random.default_rng(0).normal(size=(4, 5, 9))
    for rows, root in zip(shifted, root_covariance(shifted), strict=True):
        covariance = rows.T @ rows / 4
        np.testing.assert_allclose(root @ root, covariance, atol=1e-10)
        np.testing.assert_allclose(root, sqrtm(covariance + 1e-14 * np.eye(9)).real, atol=1e-6)
    a, b = root_covariance(shifted)[:2]
    expected = np.linalg.norm(a - b)
    judge = metric("covet_distance")
    assert judge.value(judge.statistics(a[None], b[None], np.zeros(1, int), 1, np.zeros(1, int))[0]) == pytest.approx(
        expected
    )
    assert not root_covariance(np.zeros((1, 5, 9))).any()


def test_environments_by_hand() -> None:
    stand = Ground(peers=np.array([[0, 1, 2]]), centre=np.array([1.0]))
    assert neighbourhood(np.array([[1.0], [3.0], [5.0]]), stand)[0, 0, 0] == pytest.approx(np.sqrt((0 + 4 + 16) / 2))
    # The same neighbourhood elsewhere is no distance away; a shift of all of them is one.
    twice = replace(stand, peers=np.array([[0, 1, 2], [3, 4, 5]]))
    x = np.array([[1.0], [3.0], [5.0], [5.0], [1.0], [3.0]])
    here, there = neighbourhood(x, twice)
    np.testing.assert_allclose(here, there)
    assert neighbourhood(x + 1, twice)[0, 0, 0] > here[0, 0]


def test_a_prediction_that_collapses_to_the_mean_is_as_far_as_can_be() -> None:
    stand = ground()
    true = neighbourhood(LOG[ASKED], stand)
    collapsed = neighbourhood(np.repeat(stand.centre[None], ASKED.sum(), axis=0), stand)
    assert distance("neighbourhood", collapsed, true, "covet_distance") == pytest.approx(
        np.sqrt((true**2).sum((1, 2))).mean()
    )


def test_niches_are_told_by_expression_around_and_shares_sum_to_one() -> None:
    found = niche_composition(LOG[ASKED], ground())
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert (found.argmax(axis=1) == [0, 1, 2]).all() and found.max(axis=1).min() > 0.8


def test_genes_called_by_hand() -> None:
    base = np.array([[100.0, 100.0, 100.0, 9700.0], [100.0, 100.0, 100.0, 9700.0]])
    effect = np.array([[100.0, -8.0, -50.0, -42.0], [0.0, 0.0, 0.0, 0.0]])
    stand = Ground(base=base, group=np.array([0, 1]), own=np.array([[False, False, True, False]] * 2))
    found = called_genes(effect, stand).differential
    assert found is not None
    np.testing.assert_allclose(found.lfc[0], np.log2([2.0, 0.92, 0.5, 9658 / 9700]), atol=1e-6)
    assert found.significant.tolist() == [[True, False, True, False], [False] * 4]
    other = called_genes(np.array([[-50.0, 50.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]), stand)
    true = called_genes(effect, stand)
    got = {
        m: metric(m).value(metric(m).statistics(other, true, np.zeros(2, int), 1, np.zeros(2, int))[0])
        for m in ("called_sets", "called_direction", "called_size")
    }
    # What the intervention is done to is left out: one gene is truly called, two are said to be, its sign is wrong.
    assert got == {"called_sets": 0.5, "called_direction": 0.0, "called_size": pytest.approx(2.0, abs=1e-6)}


def test_the_record_of_a_donor_does_not_tell_of_itself() -> None:
    stand = ground()
    assert (endpoint(values("endpoint"), stand) == stand.outcome).all()
    other = stand.outcome.copy()
    other[:2] = 1 - other[:2]
    assert (endpoint(values("endpoint"), replace(stand, outcome=other))[:2] == stand.outcome[:2]).all()


def test_stage_of_disease_from_the_cells_of_a_pancreas(data_dir: Any) -> None:
    """Twelve donors in three stages of type 1 diabetes, each told by the others from the kinds of cells in images."""
    cells = pd.read_csv(data_dir / "imc-pancreas/t1d/diabetesData_cells.csv.gz")
    shares = pd.crosstab(cells["imageID"], cells["cellType"], normalize="index")
    facts = cells.groupby("imageID")[["case", "stage"]].first().loc[shares.index]
    outcome = pd.Categorical(facts["stage"]).codes.astype(int)
    stand = Ground(donor=facts["case"].to_numpy(), outcome=outcome)
    said = endpoint(shares.to_numpy(), stand)
    n = np.zeros(len(outcome), int)

    def macro_f1(answer: np.ndarray) -> float:
        return metric("macro_f1").value(metric("macro_f1").statistics(answer, outcome, n, 1, n)[0])

    assert macro_f1(said) == pytest.approx(0.641, abs=2e-3)
    wrong = np.random.default_rng(0).permutation(shares.to_numpy())
    assert macro_f1(endpoint(wrong, stand)) < 0.45


def answers(reading: Callable[[np.ndarray], Any] = lambda x: x) -> Scored:
    n = int(ASKED.sum())
    noise = np.random.default_rng(5).normal(size=(2, n, GENES))
    return Scored(
        task="t",
        axis="context",
        split="test",
        scale="cell",
        modality="rna",
        readout="genes",
        measured=LOG[ASKED],
        model=reading(LOG[ASKED]),
        baselines={"global_mean": np.repeat(LOG[~ASKED].mean(axis=0)[None], n, axis=0)},
        metrics=(),
        units=Units(np.arange(n) % 6, "donor", np.zeros(n, int)),
        leakage=0.0,
        ceilings={"split_half": Halves(*(LOG[ASKED] + noise))},
    )


def test_halves_and_draws_are_read_one_by_one() -> None:
    stand = ground()
    found = read_out(answers(lambda x: np.stack([x, x + 1.0], axis=1)), "neighbourhood", stand)
    halves = answers().ceilings["split_half"]
    np.testing.assert_allclose(found.ceilings["split_half"].one, neighbourhood(halves.one, stand))
    both = [neighbourhood(LOG[ASKED] + shift, stand) for shift in (0.0, 1.0)]
    np.testing.assert_allclose(found.model, np.mean(both, axis=0))
    assert found.readout == "neighbourhood" and found.metrics == ("covet_distance",)
    apart = estimate(metric("covet_distance"), found.ceilings["split_half"], found.measured, found.units).value
    assert apart == pytest.approx(
        np.linalg.norm(neighbourhood(halves.one, stand) - neighbourhood(halves.other, stand), axis=(1, 2)).mean()
        / np.sqrt(2)
    )


def test_results_carry_their_readout_and_stand_beside_baselines() -> None:
    tasks = [read_out(answers(), name, ground()) for name in ("genes", "pathways")]
    results, comparisons = score(tasks)
    assert {r.readout for r in results} == {"genes", "pathways"} == {c.readout for c in comparisons}
    assert {r.metric for r in results if r.readout == "pathways"} == {"pearson_by_pathway", "rmse"}


def test_niches_are_read_about_the_section_and_not_by_its_level() -> None:
    """A section that was measured better throughout has the same niches; one of other genes has not."""
    shift = np.linspace(-2, 2, GENES)
    plain = ground()
    expected = niche_composition(LOG[ASKED], plain)
    assert plain.known is not None
    brighter = niche_composition(LOG[ASKED] + shift, replace(plain, known=plain.known + shift))
    np.testing.assert_allclose(brighter, expected, atol=1e-9)
    assert np.abs(niche_composition(np.roll(LOG[ASKED], 1, axis=1), plain) - expected).max() > 0.01


def test_each_section_has_its_own_mean() -> None:
    two = np.repeat([0, 1], [60, 30])
    found = replace(ground(), section=two).mean_of_section(LOG[ASKED])
    for one in (0, 1):
        here = two[ASKED] == one
        np.testing.assert_allclose(found[here], np.broadcast_to(LOG[two == one].mean(axis=0), found[here].shape))
