"""What a parent was measured is to be likely given its children."""

from __future__ import annotations

import torch

from aivc_graph.training.terms.term import TERMS, AbstractTerm, Loss, Pass, anchored


@TERMS.register("anchors")
class AnchorTerm(AbstractTerm):
    r"""Negative log-likelihood of the parent's measurement given the lifted states of its children, a feature.

    .. math:: -\log p\big(y_p \mid L(\{z_c : c \in p\})\big)

    Of the measurement that the parent's state is made of.
    """

    def forward(self, one: Pass) -> Loss:
        """Return the sums of a window, by parent and child."""
        loss = Loss()
        for pair in anchored(one):
            part = one.model.state_maker(pair.lift.plan.parent)
            data = one.inputs.measured(*part.slot)
            said = part.likelihood(pair.lift.alone(pair.child, pair.up), data)
            node, feature = pair.rows * data.mask, torch.ones(part.width, device=pair.rows.device)
            loss.total[pair.key] = said.nll(part.observation(data), node, feature)
            loss.number[pair.key], loss.weight[pair.key] = said.number(node, feature), 1.0
        return loss
