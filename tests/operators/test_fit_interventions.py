"""How much of an effect is kept: nothing without support of left-out donors, all of what they agree on."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.operators.intervention.effect_rows import effects_of
from aivc_graph.operators.intervention.fit_interventions import _kept
from aivc_graph.operators.intervention.intervention_plan import InterventionPlan
from tests.operators.test_joint_effects import COMPONENTS, DONORS, study

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
    latent=2,
    n_molecules=3,
)


@pytest.mark.parametrize(("effect", "kept"), [(0.0, 0.0), (1.0, 1.0)])
def test_an_effect_is_kept_where_left_out_donors_support_it(effect: float, kept: float) -> None:
    found = []
    for seed in range(4):
        rows, _ = study(seed, effect)
        effects = effects_of(rows, PLAN)
        found.append(_kept(rows, effects.whole, effects.without, PLAN)[:2, 0])
    np.testing.assert_array_equal(np.array(found), kept)
