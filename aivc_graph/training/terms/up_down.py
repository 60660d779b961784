"""Children told by the parent that they made are to be as they were, as a set."""

from __future__ import annotations

import torch

from aivc_graph.operators.set_distance import energy_distance
from aivc_graph.training.terms.term import TERMS, AbstractTerm, Loss, Pass, anchored

# Parents of a window whose children are compared, drawn at random, and children of each.
MOST_PARENTS, MOST_CHILDREN = 32, 64


@TERMS.register("up_down")
class UpDownTerm(AbstractTerm):
    r"""Energy distance of project after lift from the children it began with, parent by parent, in noise of a child.

    .. math:: 2\,E|X - Y| - E|X - X'| - E|Y - Y'|, \qquad X \sim P(L(\{z\})),\ Y \sim \{z\}

    with z what the children's own measurements tell.

    References
    ----------
    Székely & Rizzo 2013, doi:10.1016/j.jspi.2013.03.018 (energy distance).
    """

    def forward(self, one: Pass) -> Loss:
        """Return the sums of a window, by parent and child."""
        loss = Loss()
        for pair in anchored(one):
            scale = one.model.state_maker(pair.lift.plan.child).log_precision.exp().sqrt()
            back = pair.project.alone(pair.lift.alone(pair.child, pair.up), pair.down, lifted=True)
            rows, distances = torch.nonzero(pair.rows).ravel().cpu(), []
            for row in rows[torch.randperm(len(rows), generator=one.generator)[:MOST_PARENTS]].tolist():
                first, last = pair.up.forward_csr.crow_indices()[row : row + 2].tolist()
                children = pair.up.forward_csr.col_indices()[first:last][:MOST_CHILDREN].long()
                distances.append(energy_distance(back[children] * scale, pair.child[children] * scale))
            loss.total[pair.key] = torch.stack(distances).sum() if distances else back.new_zeros(())
            loss.number[pair.key], loss.weight[pair.key] = float(len(distances)), 1.0
        return loss
