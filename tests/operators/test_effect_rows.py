"""Counts as rows of a regression: few counts, uneven tissue, places that differ by themselves, and spread."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from aivc_graph.operators.intervention.choose_courses import _middle, choose_courses
from aivc_graph.operators.intervention.contrasts import HANDED_ON, Contrasts
from aivc_graph.operators.intervention.course import course_options, footprint, usual_course
from aivc_graph.operators.intervention.effect_rows import effects_of, make_rows, place_column
from aivc_graph.operators.intervention_plan import InterventionPlan
from tests.operators.parts import propagator

DONORS, COMPONENTS, MOLECULES = 5, 2, 60
AWAY_UM = np.array([-60.0, -20.0, 5.0, 20.0, 40.0, 80.0, 150.0])
PLAN = InterventionPlan(
    level="cell",
    modality="rna",
    keys=("ligand:L",),
    kinds=("ligand",),
    targets=({"L": 1.0},),
    pairs=(),
    doses=((1.0, 1.0),),
    hours=((24.0, 24.0),),
    donors=tuple(f"d{i}" for i in range(DONORS)),
    seen_in=(tuple(range(DONORS)),),
    latent=2,
    n_molecules=MOLECULES,
    components=COMPONENTS,
)

PROPAGATOR = propagator(1)


def near(away_um: float) -> list[float]:
    """Return the exposure at a distance from a straight border, longer for each larger share that is handed on."""
    length = 15.0 + 60.0 * np.array(HANDED_ON)
    return list(np.where(away_um < 0, 1 - 0.5 * np.exp(away_um / length), 0.5 * np.exp(-away_um / length)))


def study(seed: int, counts_a_group: float, change: dict[int, object], uneven: int | None = None) -> Contrasts:
    """Return groups of one untreated and one locally treated section a donor.

    `change` says for each molecule the log change from (treated, distance from the border, exposures).
    """
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(MOLECULES, 2.0))
    fields: dict[str, list[object]] = {name: [] for name in Contrasts.__dataclass_fields__}
    for donor in range(DONORS):
        for treated in (False, True):
            patchy = rng.normal(0, 0.5, 4)
            for component in range(COMPONENTS):
                for tile in (-1,) if treated else range(4):
                    for away in AWAY_UM:
                        expected = share * counts_a_group * (1.0 if treated else 5.0)
                        log_change = np.zeros(MOLECULES)
                        for molecule, of in change.items():
                            log_change[molecule] = of(treated, away, near(away))  # type: ignore[operator]
                        if uneven is not None:
                            log_change[uneven] += patchy[int(rng.integers(4)) if treated else tile]
                        row = {
                            "donor": donor,
                            "section": 2 * donor + treated,
                            "component": component,
                            "counts": rng.poisson(expected * np.exp(log_change)).astype(float),
                            "expected": expected,
                            "uneven": np.zeros(MOLECULES),
                            "applied": [float(away < 0)],
                            "near": [near(away)],
                            "local": [True],
                            "tile": tile,
                            "dose": [float(treated)],
                            "hours": [24.0 * treated],
                            "nodes": 10.0,
                        }
                        for name, value in row.items():
                            fields[name].append(value)
    return Contrasts(**{name: np.array(values) for name, values in fields.items()})


def effects(contrasts: Contrasts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the effect and the place's difference (molecule,), and the inflation of what is found in a part."""
    rows, _ = make_rows(contrasts, [usual_course(contrasts, 0, PROPAGATOR)], PLAN)
    found = effects_of(rows, PLAN).whole
    return found.mean[0], found.mean[place_column(contrasts, PLAN, 0)], rows.inflation.max(axis=0)


def test_few_counts_are_not_taken_for_less() -> None:
    contrasts = study(0, 60.0, {})  # one count a molecule and treated group
    naive = np.log((contrasts.counts + 0.5) / (contrasts.expected + 0.5))
    inside = (contrasts.applied[:, 0] > 0) & (contrasts.dose[:, 0] > 0)
    assert naive[inside].mean() < -0.15
    assert np.abs(effects(contrasts)[0]).max() < 0.05


def test_one_count_where_none_is_expected_is_chance() -> None:
    contrasts = study(6, 300.0, {})
    contrasts.expected[:, 7], contrasts.counts[:, 7] = 0.01, 0.0
    treated = np.flatnonzero((contrasts.applied[:, 0] > 0) & (contrasts.dose[:, 0] > 0))
    contrasts.counts[treated[0], 7] = 1.0
    rows, _ = make_rows(contrasts, [usual_course(contrasts, 0, PROPAGATOR)], PLAN)
    found = effects_of(rows, PLAN).whole
    assert np.abs(found.mean[0, 7] + found.departure[0, :, 7]).max() < 0.5  # log(1 / 0.01) is 4.6


def test_what_is_lost_in_small_groups_is_not_taken_for_less() -> None:
    """Of one count a molecule and treated group an eighth is left; counts on top of each make that 0.38."""
    lost = {m: lambda treated, away, _: -2.0 * (treated and away < 0) for m in range(10)}
    found = []
    for seed in range(3):
        contrasts = study(seed, 60.0, lost)
        rows, _ = make_rows(contrasts, [usual_course(contrasts, 0, PROPAGATOR)], PLAN)
        found.append(effects_of(rows, PLAN).not_shrunken[0].mean[0, :10])
    assert np.mean(found) < -1.4


def test_nodes_that_differ_are_not_taken_for_an_effect_where_few_were_treated() -> None:
    """Of the second component there are few groups of a node each, and its first molecule comes in bursts of nodes.

    What all groups differ by does not say so: most are of the other component, where they are alike.
    """
    found: dict[float, list[float]] = {0.0: [], 1.0: []}
    for seed in range(4):
        contrasts = study(seed, 3000.0, {})
        rare = contrasts.component == 1
        contrasts = contrasts.take(~rare | ((contrasts.tile < 1) & (np.tile(AWAY_UM, len(rare) // len(AWAY_UM)) < 6)))
        rare = contrasts.component == 1
        contrasts.counts[rare, 0] *= np.random.default_rng(seed).gamma(1.0, 1.0, rare.sum())  # of variance 1
        for variance, sizes in found.items():
            contrasts.uneven[rare, 0] = variance
            rows, _ = make_rows(contrasts, [usual_course(contrasts, 0, PROPAGATOR)], PLAN)
            whole = effects_of(rows, PLAN).whole
            sizes.append(float(np.abs(whole.mean[0, 0] + whole.departure[0, :, 0]).max()))
    assert max(found[1.0]) < 0.05 < max(found[0.0]), found


def test_an_effect_is_found_beside_what_is_usual_at_its_place() -> None:
    change = {0: lambda _, away, __: 0.6 * (away < 0), 1: lambda treated, away, __: 0.8 * (treated and away < 0)}
    effect, place, _ = effects(study(1, 3000.0, change))
    assert effect[1] == pytest.approx(0.8, abs=0.1) and abs(place[1]) < 0.1
    assert place[0] == pytest.approx(0.6, abs=0.1) and abs(effect[0]) < 0.1
    assert np.abs(effect[2:]).max() < 0.05


def test_effects_that_are_not_shrunken_reach_the_truth() -> None:
    centre, errors, shrunken = [], [], []
    for seed in range(20, 26):
        contrasts = study(seed, 300.0, {m: lambda treated, away, _: 0.25 * (treated and away < 0) for m in range(10)})
        rows, _ = make_rows(contrasts, [usual_course(contrasts, 0, PROPAGATOR)], PLAN)
        effects = effects_of(rows, PLAN)
        without = np.array([found.mean[0] for found in effects.not_shrunken[1:]])
        centre.append(without.mean(axis=0))
        errors.append(np.sqrt((DONORS - 1) * without.var(axis=0)))
        shrunken.append(effects.whole.mean[0])
    true = np.where(np.arange(MOLECULES) < 10, 0.25, 0.0)
    covered = np.abs(np.array(centre) - true) < stats.t.ppf(0.975, DONORS - 1) * np.array(errors)
    assert covered[:, :10].mean() > 0.85 and covered[:, 10:].mean() > 0.9
    assert np.abs(np.array(shrunken)[:, :10]).mean() < 0.2  # the estimates themselves fall short of it


def test_uneven_tissue_makes_one_place_say_less() -> None:
    effect, _, inflation = effects(study(2, 3000.0, {}, uneven=3))
    assert inflation[3] > 5 and np.median(np.delete(inflation, 3)) < 1.6
    assert abs(effect[3]) < 0.15


def test_what_was_left_untreated_tells_nothing_of_half_doses() -> None:
    contrasts = study(0, 300.0, {})
    given = contrasts.dose[:, 0] > 0
    assert not given.all()
    contrasts.dose[given, 0] = 0.2 * 5.0 ** (contrasts.donor[given] % 3)
    options = course_options(contrasts, 0, usual_course(contrasts, 0, PROPAGATOR))
    halves = {course.numbers[0] for course in options}
    assert len(halves) > 5 and min(halves) == pytest.approx(0.1) and max(halves) == pytest.approx(10.0)


def test_spread_is_found_where_there_is_one() -> None:
    reach = HANDED_ON.index(0.75)
    spreading = study(3, 3000.0, {m: lambda treated, _, e: 0.8 * treated * e[reach] for m in range(6)})
    direct = study(4, 3000.0, {m: lambda treated, away, _: 0.8 * (treated and away < 0) for m in range(6)})
    passed_on = np.ones((1, MOLECULES))
    (found,), (none,) = (choose_courses(c, PLAN, passed_on, PROPAGATOR) for c in (spreading, direct))
    assert none.spread == 0
    assert found.spread > 0
    true = spreading.near[:, 0, reach]
    assert np.abs(footprint(spreading, 0, found) - true).max() < 0.15


def test_what_stays_inside_the_cell_tells_nothing_of_spread() -> None:
    spreading = study(5, 3000.0, {m: lambda treated, _, e: 0.8 * treated * e[2] for m in range(6)})
    inside = np.ones((1, MOLECULES))
    inside[0, :6] = 0
    assert choose_courses(spreading, PLAN, inside, PROPAGATOR)[0].spread == 0


def test_a_reach_that_hardly_differs_from_others_is_taken_in_the_middle() -> None:
    assert _middle(np.array([0.9, 0.95, 0.97, 0.99, 1.0])) == 2  # not the last, though it is the likeliest
    assert _middle(np.array([1.0, 0.0, 0.0, 0.0, 0.01])) == 0 and _middle(np.array([0.0, 0.01, 0.0, 1.0, 0.1])) == 3
