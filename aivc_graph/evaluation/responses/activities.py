"""Responses read as activities of pathways: the same rows and answers, with sources in place of genes."""

from __future__ import annotations

import dataclasses

import numpy as np

from aivc_graph.evaluation.metrics.metric import Answers
from aivc_graph.evaluation.readouts.footprints import Footprints
from aivc_graph.evaluation.readouts.pathways import pathways
from aivc_graph.evaluation.readouts.readout import Ground
from aivc_graph.evaluation.responses.views import Floats, Measured, Predicted, Replicates
from aivc_graph.evaluation.scoring import Scored

READOUT = "pathways"
# Profile metrics that need neither the variance of single cells nor what sets a gene apart.
METRICS = (
    "pearson_delta_profile",
    "systema_delta",
    "mse_delta",
    "rmse_delta",
    "centroid_accuracy",
    "pds_cosine",
    "pds_l1_2025",
    "perturbench_rank",
)


def in_pathways(scored: Scored, footprints: Footprints) -> Scored:
    """Return a task about a table of responses with everybody's profiles, and the measured ones, as activities.

    What was done to a gene itself is no activity: it counts as unchanged on both sides.
    """
    ground = Ground(footprints=footprints)

    def of_log(values: Floats) -> Floats:
        return np.asarray(pathways(values, ground))

    def moved(profile: Floats, measured: Measured) -> Floats:
        return of_log(measured.control + np.where(measured.own, 0.0, profile - measured.control))

    def of_measured(view: Measured) -> Measured:
        n, control = len(view), of_log(view.control)
        unknown = np.full_like(control, np.nan)
        return dataclasses.replace(
            view,
            profile=moved(view.profile, view),
            control=control,
            reference=moved(view.reference, view),
            variance=unknown,
            control_variance=unknown,
            distinction=np.zeros_like(control),
            own=np.zeros(control.shape, bool),
            target=np.zeros(control.shape[1], bool),
            alone=np.full((n, 2, control.shape[1]), np.nan),
            differential=None,
            space=None,
        )

    def read(answer: Answers) -> Answers:
        if isinstance(answer, Measured):
            return of_measured(answer)
        if isinstance(answer, Replicates):
            pairs = tuple((Predicted(moved(one.profile, two)), of_measured(two)) for one, two in answer.pairs)
            return dataclasses.replace(answer, pairs=pairs)
        return Predicted(moved(answer.profile, scored.measured))

    return scored.read(read, readout=READOUT, metrics=METRICS, leaks=(), audit={}, folds={})
