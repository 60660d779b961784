"""Types are told from a node's own intensities, also where a state of few axes has no room for them."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from aivc_graph.graph.build import build_graph
from aivc_graph.model.settings import ModelConfig
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
    own = part.rule_share[1, 0, -1].item()
    part.rule_share[1, 0, -1], part.rule_share[1, 0, 4] = 0.0, part.rule_share[1, 0, 4] + own
    without = loss(told_types(model, graph, "cell")[0][test], made[3][1][index])
    assert own > 0.5 and right < 0.2 < 0.5 < without
