"""Settings of an evaluation: what answers are read as, and how scores are put together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, field_validator

from aivc_graph import names
from aivc_graph.evaluation.records import AXES, Axis
from aivc_graph.settings import Settings


def _all_alike() -> dict[Axis, float]:
    return dict.fromkeys(AXES, 1.0)


class QuestionConfig(Settings):
    """A question to a screen: a split design, asked over all its folds, and where.

    Parameters
    ----------
    kind
        Name of a split design that draws groups, such as ``by_intervention`` or ``by_context``; every further key is an
        option of it. Where neither `test` nor `n_test` is given each group is held out in turn, in at most twenty
        folds.
    within
        Contexts that are asked about and learned from; all if not given.
    """

    model_config = ConfigDict(extra="allow")

    kind: str
    within: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The design's options as given."""
        return dict(self.model_extra or {})


class EvaluationConfig(Settings):
    """What answers are read as, how scores are put together, and what is known of a tissue beside its measurements.

    Parameters
    ----------
    weights
        Weight of each axis in the aggregate risk, not negative; an axis not named has none. All alike if not given.
        Axes that were not run are left out and the others brought to sum one; what was used stands beside the risk.
    pathways
        Weights of pathways or transcription factors, as `read_footprints` takes them; activities are then scored beside
        genes.
    annotation
        Column of the nodes in which an expert named the regions; niches are scored against it where the truth is not
        known. None where it is something else, such as the kind of a cell.
    endpoint
        Trait of the sections, such as a stage of disease; told from their niches with each donor left out.
    questions
        What is asked of a screen beside what the split of its task holds out.
    """

    weights: dict[Axis, float] = Field(default_factory=_all_alike)
    pathways: Path | None = None
    annotation: str | None = names.LABEL
    endpoint: str | None = Field(default=None, min_length=1)
    questions: tuple[QuestionConfig, ...] = ()

    @field_validator("weights")
    @classmethod
    def _weights_weigh(cls, weights: dict[Axis, float]) -> dict[Axis, float]:
        wrong = sorted(axis for axis, weight in weights.items() if not (math.isfinite(weight) and weight >= 0))
        if wrong:
            raise ValueError(f"the weight of {', '.join(wrong)} is no number from 0; give each axis one")
        if not sum(weights.values()) > 0:
            raise ValueError("all weights are 0; give one axis a weight above")
        if math.isinf(sum(weights.values())):
            raise ValueError("the sum of all weights is infinite; give smaller ones, they are brought to sum one")
        return weights
