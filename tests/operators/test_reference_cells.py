"""Cells of a reference: how many molecules one has, how they vary, and what that makes of shares."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aivc_graph.operators.composition import reference_width as widths
from tests.reference import TYPES, cells_of, material, spots_of


def test_molecules_in_a_cell_turn_shares_of_rna_into_shares_of_cells() -> None:
    cells, labels = cells_of()
    cells[labels == "A"] *= 4.0
    content = widths.contents(material(spots_of()[0], cells, labels), len(TYPES))
    assert float(content[0] - content[1:].mean()) == pytest.approx(np.log(4), abs=0.1)
    of_rna = torch.tensor([[0.4, 0.2, 0.2, 0.2]])[:, :, None].expand(-1, -1, 400)
    told = widths.of_cells(of_rna, content)
    assert torch.allclose(told.sum(dim=1), torch.ones(1, 400))
    assert float(told[0, 0, 0] / told[0, 1, 0]) == pytest.approx(1.0, abs=0.1)  # half of four times as much is believed
    alike = widths.of_cells(of_rna, content, torch.zeros(len(TYPES)))
    assert float(alike[0, 0].std()) > 0.05 and float(told[0, 0].std()) < 1e-6
    assert torch.allclose(widths.of_cells(of_rna, content * 0, torch.zeros(len(TYPES))), of_rna)


def test_few_cells_that_vary_leave_shares_more_open_than_many_or_one_type_alone() -> None:
    cells, labels = cells_of()
    cells[labels == "A"] *= np.random.default_rng(5).lognormal(0, 0.7, (30, 1)).astype(np.float32)
    found = widths.scatter(material(spots_of()[0], cells, labels), len(TYPES))
    assert 0.3 < float(found[0]) <= widths.MOST_SCATTER and float(found[1:].max()) < 0.1
    none = widths.scatter(material(spots_of()[0], cells[:1], labels[:1]), len(TYPES))
    assert (none == widths.USUAL_SCATTER).all()
    content = torch.zeros(len(TYPES))
    half, whole = (torch.tensor([[one, 1 - one, 0.0, 0.0]])[:, :, None].expand(-1, -1, 400) for one in (0.5, 1.0))
    spread = [float(widths.of_cells(half, content, one * torch.ones(4))[0, 0].std()) for one in (0.0, 0.25, 1.0)]
    assert spread[0] < 1e-6 < spread[1] < spread[2]
    # The mean of four cells of either kind, whose variance is their squared mean: √(1/4 + 1/4) of a share of a half.
    assert spread[2] == pytest.approx(0.25 * np.sqrt(2 * np.log1p(0.25)), rel=0.15)
    assert float(widths.of_cells(whole, content, torch.ones(4))[0, 0].std()) == 0


def test_a_type_without_cells_has_the_usual_content() -> None:
    cells, labels = cells_of()
    kept = labels != "D"
    content = widths.contents(material(spots_of()[0], cells[kept], labels[kept]), len(TYPES))
    assert float(content[3]) == 0.0 and torch.isfinite(content).all()
