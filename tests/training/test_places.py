"""Places share the work: nobody judges what they have shaped, and donors that trained are not new."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from aivc_graph import names
from aivc_graph.graph.build import build_graph
from aivc_graph.operators.state import Inputs
from aivc_graph.training.places import CHOOSING, LEARNING, STOPPING, Places, new_donors

N = 200


def groups(validated: bool) -> dict[str, torch.Tensor]:
    """Return who of 200 nodes in 50 places, a fifth of them for validation or none, belongs to each group."""
    place = torch.arange(N) % 50
    split = (place >= 40).long() * names.SPLITS.index(names.VALIDATION) if validated else torch.zeros(N).long()
    split[split == 0] = names.SPLITS.index(names.TRAIN)
    inputs = Inputs({"cell": N}, {"cell": torch.zeros(N).long()}, {"cell": split}, {"cell": place}, {})
    places = Places(40 if validated else 50, 10 if validated else 0, torch.zeros(1).long())
    core = {"cell": torch.ones(N)}
    return {group: places.counted(inputs, core, group)["cell"] for group in (LEARNING, STOPPING, CHOOSING)}


@pytest.mark.parametrize("validated", [True, False])
def test_who_learns_stops_and_chooses_are_others_and_everybody_is_someone(validated: bool) -> None:
    found = groups(validated)
    assert all(one.sum() > 0 for one in found.values())
    torch.testing.assert_close(sum(found.values(), torch.zeros(N)), torch.ones(N))


def test_donors_that_train_anywhere_are_not_new(striped_section: Callable[..., Any]) -> None:
    sections = [striped_section(f"s{i}", n=60, seed=i, donor=donor) for i, donor in enumerate(("A", "A", "B", "C"))]
    for section in sections[1:]:
        section.shapes["cell"]["split"] = "test"
    code = new_donors(build_graph(sections), ["cell"])
    assert (code[:2] == -1).all() and (code[2:] >= 0).all() and len(np.unique(code[2:])) == 2
