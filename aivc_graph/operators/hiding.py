"""What is hidden from the model, so that context must explain it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from aivc_graph import names
from aivc_graph.operators.state import Hidden, Inputs

# Of nodes whose own observation is hidden, of molecules hidden from the rest, of windows that nobody counted in.
NODES, FEATURES, UNSEQUENCED_WINDOWS = 0.25, 0.3, 0.25


def draw_hidden(
    measurements: Iterable[Any],
    inputs: Inputs,
    generator: np.random.Generator,
    nodes: float = NODES,
    features: float = FEATURES,
) -> Hidden:
    """Choose which nodes and features the model may not see.

    A hidden node loses its counts and keeps its tile features in three of four cases, so that both the neighbourhood
    and the image learn to stand in for the counts. Where a level has such features, every node of every fourth window
    loses its counts: a section that was never sequenced has no sequenced neighbours either.
    """
    hidden, there = Hidden(), [m for m in measurements if m.seen and ("measurement", *m.slot) in inputs]
    for one in there:
        level, share = one.plan.level, nodes
        if one.hides_features:
            others = any(m.plan.level == level and not m.hides_features for m in there)
            share = 1.0 if generator.random() < UNSEQUENCED_WINDOWS and others else nodes
        else:
            share = NODES
        # What is held out draws no number, so that it does not move the lot of the others.
        seen = (inputs.split[level] <= names.SPLITS.index(names.VALIDATION)).cpu().numpy()
        who = np.zeros(len(seen), np.float32)
        who[seen] = generator.random(int(seen.sum())) < share
        hidden.nodes[one.key] = torch.from_numpy(who).to(inputs.device)
        if one.hides_features:
            shown = (generator.random(len(one.plan.names)) >= features).astype(np.float32)
            shown = shown if 0 < shown.sum() < len(shown) else np.ones_like(shown)
            hidden.shown[one.key] = torch.from_numpy(shown).to(inputs.device)
    return hidden
