"""What a parent tells its children is to come back to it."""

from __future__ import annotations

from aivc_graph.training.terms.term import TERMS, AbstractTerm, Loss, Pass, anchored


@TERMS.register("down_up")
class DownUpTerm(AbstractTerm):
    r"""Squared distance of lift after project from where it began, a parent and component, in noise of a measurement.

    .. math:: (L(P(t)) - t)^\top \Sigma^{-1} (L(P(t)) - t)

    with t what the parent's own measurements tell and Σ the noise of them.
    """

    def forward(self, one: Pass) -> Loss:
        """Return the sums of a window, by parent and child."""
        loss = Loss()
        for pair in anchored(one):
            back = pair.lift.alone(pair.project.alone(pair.parent, pair.down), pair.up)
            precision = one.model.state_maker(pair.lift.plan.parent).log_precision.exp()
            loss.total[pair.key] = pair.rows @ ((back - pair.parent).square() @ precision)
            loss.number[pair.key], loss.weight[pair.key] = float(pair.rows.sum() * len(precision)), 1.0
        return loss
