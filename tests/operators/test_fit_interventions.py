"""Which interventions do anything: none without evidence or support of left-out donors, and all that have it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aivc_graph.operators.intervention.effect_rows import effects_of
from aivc_graph.operators.intervention.fit_interventions import _passed_on, _supported
from aivc_graph.operators.intervention.joint_effects import Rows
from aivc_graph.operators.intervention_plan import InterventionPlan
from tests.operators.test_joint_effects import COMPONENTS, DONORS, MOLECULES, study

PLAN = InterventionPlan(
    level="cell",
    modality="rna",
    keys=("drug:A", "drug:B"),
    kinds=("drug", "drug"),
    targets=({}, {}),
    pairs=(),
    doses=((1.0, 1.0),) * 2,
    hours=((24.0, 24.0),) * 2,
    donors=tuple(f"d{i}" for i in range(DONORS)),
    seen_in=(tuple(range(DONORS)),) * 2,
    components=COMPONENTS,
    latent=4,
    n_molecules=MOLECULES,
)


@pytest.mark.parametrize(("effect", "there"), [(0.0, False), (1.0, True)])
def test_an_effect_is_told_where_it_is_supported(effect: float, there: bool) -> None:
    found = []
    for seed in range(4):
        rows, _ = study(seed, effect)
        effects = effects_of(rows, PLAN)
        found.append(_supported(rows, effects.whole, effects.without, PLAN)[:2])
    np.testing.assert_array_equal(np.array(found), there)


def test_what_is_lost_inside_a_cell_does_not_spread_and_what_follows_does() -> None:
    plan = PLAN.model_copy(update={"kinds": ("knockout", "drug"), "targets": ({"B": -1.0}, {"B": -1.0})})
    np.testing.assert_array_equal(_passed_on(("A", "B"), plan), [[1.0, 0.0], [1.0, 1.0]])


def supported_by(rows: Rows, **changed: np.ndarray) -> np.ndarray:
    effects = effects_of(rows, PLAN)
    return _supported(rows, replace(effects.whole, **changed), effects.without, PLAN)[:2]


def test_evidence_is_support_too() -> None:
    least = 2 * np.log(COMPONENTS * MOLECULES)
    for seed in range(4):
        nothing, some = (study(seed, effect)[0] for effect in (0.0, 0.5))
        assert effects_of(nothing, PLAN).whole.evidence.max() < least < effects_of(some, PLAN).whole.evidence.min()
        np.testing.assert_array_equal(supported_by(nothing, evidence=np.array([least + 1, least - 1])), [True, False])


def test_one_molecule_that_all_donors_agree_on_is_an_effect() -> None:
    found = []
    for seed in range(4):
        rows, _ = study(seed, 0.0)
        rows = replace(rows, y=rows.y - 1.0 * rows.x[:, :1] * (np.arange(MOLECULES) == 3))
        found.append(supported_by(rows, evidence=np.zeros(2)))
    np.testing.assert_array_equal(np.array(found), [[True, False]] * 4)


def test_one_donor_has_its_effects_and_no_interaction() -> None:
    plan = PLAN.model_copy(update={"keys": ("drug:A",), "pairs": (("drug:A", "drug:A"),), "donors": ("d0",)})
    rows = study(0, 1.0)[0]
    rows = rows.take(rows.donor == 0)
    np.testing.assert_array_equal(_supported(rows, effects_of(rows, plan).whole, [], plan), [True, False])
