"""Exposure and interactions: exact far field, one where all is treated, whatever the order of nodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from aivc_graph.graph.tissue_graph import to_torch_csr
from aivc_graph.operators.intervention.exposure import Field, exposure
from aivc_graph.operators.product import SparseOperator
from tests.operators.parts import shift as shift_of

SHAPES = [(0.0, 0.0), (0.75, 0.0), (0.9, 10.0)]


def line(n: int) -> SparseOperator:
    """Return the mean over both neighbours on a line of nodes."""
    near = sparse.diags([np.ones(n - 1), np.ones(n - 1)], [-1, 1]).tocsr()
    return SparseOperator.of(to_torch_csr(sparse.csr_matrix(near.multiply(1 / near.sum(axis=1)).astype(np.float32))))


@pytest.mark.parametrize(("handed_on", "sharpness"), SHAPES)
def test_exposure_ends_at_its_reach_and_is_one_inside(handed_on: float, sharpness: float) -> None:
    field = torch.zeros(41)
    field[20] = 1.0
    found = exposure(field, line(41), handed_on, 5, sharpness)
    assert (found[:15] == 0).all() and (found[26:] == 0).all() and found[21] > 0
    torch.testing.assert_close(exposure(torch.ones(41), line(41), handed_on, 5, sharpness), torch.ones(41))
    assert (exposure(torch.zeros(41), line(41), handed_on, 5, sharpness) == 0).all()
    assert (exposure(0.5 * field, line(41), handed_on, 5, sharpness) <= found).all()


def test_farther_and_sharper() -> None:
    field = (torch.arange(41) < 20).float()
    near, far = (exposure(field, line(41), handed_on, 8) for handed_on in (0.0, 0.9))
    assert near[20] > 0 and near[21] == 0 and far[25] > 0
    assert (exposure(field, line(41), 0.9, 8, 10.0)[20:28] > far[20:28]).all()


def test_an_interaction_takes_both() -> None:
    operator = shift_of(2, 1, 3, 4)
    operator.molecule_pair, operator.latent_pair = torch.ones(1, 1, 1, 4), torch.ones(1, 1, 1, 3)
    state, pairs = torch.zeros(3, 3), {(0, 1): 0}
    one, other = torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0.0, 1.0, 0.5])
    latent, molecule = operator(state, {0: Field(one, one), 1: Field(other, other)}, pairs)
    expected = torch.tensor([0.0, 0.0, 0.25])
    torch.testing.assert_close(molecule, expected[:, None].expand(-1, 4))
    torch.testing.assert_close(latent, expected[:, None].expand(-1, 3))


def test_uncertainty_goes_with_what_reaches_a_node_and_interventions_err_by_themselves() -> None:
    operator = shift_of(2, 1, 3, 4)
    operator.error = torch.zeros(2, 2, 1, 4)
    operator.error[0], operator.error[1, 0], operator.pair_error = 3.0, 4.0, torch.full((1, 1, 4), 12.0)
    state, amount = torch.zeros(3, 3), torch.tensor([0.0, 0.5, 1.0])
    fields = {0: Field(amount, torch.zeros(3)), 1: Field(amount, amount)}
    one = operator.uncertainty(state, {0: fields[0]}, {(0, 1): 0})
    torch.testing.assert_close(one, 3 * amount[:, None].expand(-1, 4))
    # What is done to a node and what reaches it from near by err together.
    near = operator.uncertainty(state, {0: Field(amount, amount)}, {})
    torch.testing.assert_close(near, 2 * one)
    torch.testing.assert_close(operator.uncertainty(state, fields, {}), 5 * amount[:, None].expand(-1, 4))
    both = operator.uncertainty(state, fields, {(0, 1): 0})
    torch.testing.assert_close(both, torch.tensor([0.0, 2.5**2 + 3.0**2, 13.0**2]).sqrt()[:, None].expand(-1, 4))
