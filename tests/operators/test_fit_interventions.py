"""Which interventions do anything: none without evidence or support of left-out donors, and all that have it."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.operators.intervention.effect_rows import effects_of
from aivc_graph.operators.intervention.fit_interventions import _passed_on, _supported
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
