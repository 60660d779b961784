"""Interactions of pairs: the pattern, the size and the kind of their deviation from the sum of their parts."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.metrics.metric import METRICS, each
from aivc_graph.evaluation.responses.views import (
    AbstractResponseMetric,
    Floats,
    Measured,
    Predicted,
    correlations,
)

NORMAN = "Norman et al. 2019, doi:10.1126/science.aax4438"
# Kinds by the fit d_ab = c_a d_a + c_b d_b: it tells little; one part leads; and the length of (c_a, c_b) against that
# of a plain sum, the root of two.
LITTLE, LEADS, WEAKER, STRONGER = 0.5, 0.25, 0.8, 1.2
KINDS = ("new", "one leads", "weaker", "additive", "stronger")


@METRICS.register(
    "interaction",
    formula="mean over pairs of corr over genes (d̂_ab - d_a - d_b, d_ab - d_a - d_b); 0 where none is predicted",
    best=1.0,
    higher_is_better=True,
    reference=NORMAN,
    weakness="noise of the two singles is in both sides and adds to it; most pairs deviate little",
)
class Interaction(AbstractResponseMetric):
    """Correlation of the deviation from the additive rule, where both parts were measured alone."""

    is_correlation = True

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return a correlation a row; none where a part was not measured alone."""
        said = predicted.profile - measured.control - measured.additive
        true = measured.effect - measured.additive
        there = np.isfinite(true).all(axis=1)
        found = correlations(np.nan_to_num(said), np.nan_to_num(true), ~measured.own, flat=0.0)
        return each(np.where(there, found, np.nan))


@METRICS.register(
    "interaction_size",
    formula="mean over pairs of |log2(|d̂_ab - d_a - d_b| / |d_ab - d_a - d_b|)|; none where no deviation is predicted",
    best=0.0,
    higher_is_better=False,
    reference=NORMAN,
    weakness="noise of three profiles lengthens the measured deviation; blind to its pattern",
)
class InteractionSize(AbstractResponseMetric):
    """How far the size of the predicted deviation is from the measured one, in doublings."""

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return a number of doublings a row."""
        said, true = (
            np.sqrt((np.where(measured.own, 0.0, effect - measured.additive) ** 2).sum(axis=1))
            for effect in (predicted.profile - measured.control, measured.effect)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            return each(np.where(said > 1e-9, np.abs(np.log2(said / true)), np.nan))


@METRICS.register(
    "interaction_class",
    formula="share of pairs of the right kind by d_ab ≈ c_a d_a + c_b d_b: new (correlation of the fit below 0.5), one "
    "leads (the smaller |c| below a quarter of the larger), weaker or stronger (|(c_a, c_b)| below 0.8 or above 1.2 of "
    "the root of 2), additive",
    best=1.0,
    higher_is_better=True,
    reference=NORMAN + "; the bounds are our own",
    weakness="pairs near a bound change kind by noise; most pairs are additive or weaker, and so is a good guess",
)
class InteractionClass(AbstractResponseMetric):
    """Share of pairs whose kind of interaction is told."""

    def rows(self, predicted: Predicted, measured: Measured) -> Floats:
        """Return 1 where the kind is right, a row; none where a part was not measured alone."""
        said, true = (kinds(effect, measured) for effect in (predicted.profile - measured.control, measured.effect))
        return each(np.where(true < 0, np.nan, said == true))


def kinds(effect: Floats, measured: Measured) -> Floats:
    """Return the position in `KINDS` of each row's interaction (row,); -1 where a part was not measured alone."""
    found = np.full(len(measured), -1)
    for i in np.flatnonzero(np.isfinite(measured.alone).all(axis=(1, 2))):
        kept = ~measured.own[i]
        alone, whole = measured.alone[i][:, kept].T, effect[i, kept]
        c = np.linalg.lstsq(alone, whole, rcond=None)[0]
        fit, size = alone @ c, np.abs(c)
        varies = fit.std() > 1e-12 and whole.std() > 1e-12
        if not varies or np.corrcoef(fit, whole)[0, 1] < LITTLE:
            found[i] = KINDS.index("new")
        elif size.min() < LEADS * size.max():
            found[i] = KINDS.index("one leads")
        else:
            length = np.linalg.norm(c) / np.sqrt(2)
            found[i] = KINDS.index("weaker" if length < WEAKER else "stronger" if length > STRONGER else "additive")
    return found
