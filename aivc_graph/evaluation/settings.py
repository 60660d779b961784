"""Settings of the aggregate risk."""

from __future__ import annotations

import math

from pydantic import Field, field_validator

from aivc_graph.evaluation.records import AXES, Axis
from aivc_graph.settings import Settings


def _all_alike() -> dict[Axis, float]:
    return dict.fromkeys(AXES, 1.0)


class EvaluationConfig(Settings):
    """How scores are put together.

    Parameters
    ----------
    weights
        Weight of each axis in the aggregate risk, not negative; an axis not named has none. All alike if not given.
        Axes that were not run are left out and the others brought to sum one; what was used stands beside the risk.
    """

    weights: dict[Axis, float] = Field(default_factory=_all_alike)

    @field_validator("weights")
    @classmethod
    def _weights_weigh(cls, weights: dict[Axis, float]) -> dict[Axis, float]:
        wrong = sorted(axis for axis, weight in weights.items() if not (math.isfinite(weight) and weight >= 0))
        if wrong:
            raise ValueError(f"the weight of {', '.join(wrong)} is no number from 0; give each axis one")
        if not sum(weights.values()) > 0:
            raise ValueError("all weights are 0; give one axis a weight above")
        return weights
