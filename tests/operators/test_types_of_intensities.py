"""Types are told from a node's own intensities, also where a state of few axes has no room for them."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch

from aivc_graph.graph.build import build_graph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.operators.logistic import MEAN_NODES
from aivc_graph.operators.measurement.type_fit import OWN
from aivc_graph.operators.state import Hidden
from aivc_graph.query.types import told_types
from aivc_graph.tissue.section import add_cells, add_observation, new_section
from tests.operators.test_types import fitted, loss

N, MARKERS, KINDS = 150, 20, ("a", "b")


def wells(name: str, seed: int, split: str) -> tuple[Any, np.ndarray]:
    """Return dissociated wells whose features follow three strong programmes, and two of them their type."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, N)
    values = 3.0 * rng.normal(size=(N, 3)) @ np.random.default_rng(0).normal(size=(3, MARKERS))
    values[:, :2] = rng.normal(size=(N, 2)) + 3.0 * kind[:, None]
    section, barcodes = new_section(name, donor=name), [f"{name}-{i}" for i in range(N)]
    label = np.array(KINDS, object)[kind]
    columns = pd.DataFrame({"label": label if split == "train" else None, "split": split}, index=barcodes)
    add_cells(section, barcodes, columns)
    table = ad.AnnData(values.astype(np.float32))
    table.obs_names, table.var_names = barcodes, [f"m{j}" for j in range(MARKERS)]
    add_observation(section, "cell", "intensity", table)
    return section, kind


def test_own_intensities_tell_what_the_state_has_no_room_for() -> None:
    made = [wells(f"p{i}", i, "train" if i < 3 else "test") for i in range(4)]
    graph = build_graph([section for section, _ in made])
    model = fitted(graph, ModelConfig(latent=2))
    part = model.part("measurement", "cell", "type")
    assert part.plan.n_own == MARKERS
    section = graph["cell"].section_index.numpy()
    test = section == section[graph.in_split("cell", "test").numpy()][0]
    index = [int(name.rsplit("-", 1)[1]) for name in graph.obs("cell")["barcode"][test]]
    told = told_types(model, graph, "cell")[0][test]
    right = loss(told, made[3][1][index])
    assert not part.rule_share[0, :, OWN].any()  # of nodes of which nothing was seen it says nothing
    own = part.rule_share[1, 0, OWN].sum().item()
    part.rule_share[1, 0, OWN], part.rule_share[1, 0, 4] = 0.0, part.rule_share[1, 0, 4] + own
    without = loss(told_types(model, graph, "cell")[0][test], made[3][1][index])
    assert own > 0.5 and right < 0.2 < 0.5 < without


def test_each_rule_on_own_intensities_says_what_it_was_fitted_to() -> None:
    """Told by the nearest mean alone, a well is of the type whose mean lies nearest; unseen, it is told the prior."""
    made = [wells(f"p{i}", i, "train") for i in range(2)]
    graph = build_graph([section for section, _ in made])
    model = fitted(graph, ModelConfig(latent=2))
    part = model.part("measurement", "cell", "type")
    inputs = model.prepare(graph)
    own = part.weighed_own(inputs, torch.eye(MARKERS))
    kind = inputs.measured(*part.slot).onehot
    mean = (kind.T @ own + own.mean(dim=0)) / (kind.sum(dim=0)[:, None] + MEAN_NODES)
    nearest = torch.cdist(own, mean).argmin(dim=1)
    seen = model(inputs)
    part.rule_share.zero_()
    part.rule_share[..., OWN[1]] = 1.0
    assert torch.equal(part.told(seen, inputs).argmax(dim=1), nearest)
    part.rule_share.zero_()
    part.rule_share[..., OWN[0]] = 1.0
    told = part.told(seen, inputs)
    right = kind.argmax(dim=1)
    assert (told.argmax(dim=1) == right).float().mean() > (nearest == right).float().mean() + 0.02
    hidden = model(inputs, Hidden(nodes={("cell", "intensity"): torch.ones(len(own))}))
    torch.testing.assert_close(part.told(hidden, inputs), part.prior.expand(len(own), -1))
