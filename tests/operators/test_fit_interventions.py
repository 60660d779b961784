"""How much of an effect is kept: nothing without support of left-out donors, all of what they agree on."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.operators.intervention.effect_rows import effects_of
from aivc_graph.operators.intervention.fit_interventions import _kept, _passed_on
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


@pytest.mark.parametrize(("effect", "kept"), [(0.0, 0.0), (1.0, 1.0)])
def test_an_effect_is_kept_where_left_out_donors_support_it(effect: float, kept: float) -> None:
    found = []
    for seed in range(4):
        rows, _ = study(seed, effect)
        effects = effects_of(rows, PLAN)
        found.append(_kept(rows, effects.whole, effects.without, PLAN)[:2, 0])
    np.testing.assert_array_equal(np.array(found), kept)


def test_what_is_lost_inside_a_cell_does_not_spread_and_what_follows_does() -> None:
    plan = PLAN.model_copy(update={"kinds": ("knockout", "drug"), "targets": ({"B": -1.0}, {"B": -1.0})})
    np.testing.assert_array_equal(_passed_on(("A", "B"), plan), [[1.0, 0.0], [1.0, 1.0]])
