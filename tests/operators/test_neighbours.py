"""What the counts of neighbours tell: at its start nothing, at its baseline their mean, and the symmetries it keeps."""

from __future__ import annotations

import torch

from aivc_graph.operators.prediction.kernel_mean import ring_sums
from aivc_graph.operators.product import SparseOperator
from tests.operators.parts import neighbours

N, MOLECULES = 7, 5


def _scene(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return log counts (node, molecule), who is visible, and two rings (ring, node, node) of 2 and 3 neighbours."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.log1p(1 + torch.poisson(2 * torch.rand(N, MOLECULES, generator=generator), generator))
    visible = torch.tensor([0.0, 1, 1, 1, 1, 1, 1])
    order = torch.stack([torch.roll(torch.arange(N), -i)[1:6] for i in range(N)])
    rings = torch.zeros(2, N, N)
    rings[0].scatter_(1, order[:, :2], 1.0)
    rings[1].scatter_(1, order[:, 2:], 1.0)
    return values, visible, rings


def _sums(values: torch.Tensor, visible: torch.Tensor, rings: torch.Tensor) -> tuple[list, list]:
    return ring_sums(
        values, visible * (values != 0).any(dim=1), [SparseOperator.of(ring.to_sparse_csr()) for ring in rings]
    )


@torch.no_grad()
def test_it_starts_at_what_was_said_and_nests_the_mean_of_neighbours() -> None:
    values, visible, rings = _scene()
    readout, said = neighbours(MOLECULES, 2), torch.rand(N, MOLECULES)
    sums, numbers = _sums(values, visible, rings)
    assert torch.equal(readout(said, readout.mean(sums, numbers)[0]), said)
    readout.said_share.zero_()
    readout.neighbour_share.fill_(1.0)
    for weight, ring in (([1.0, 0.0], rings[0]), ([1.0, 1.0], rings.sum(dim=0))):
        readout.ring_weight.copy_(torch.tensor(weight))
        mean, seen = readout.mean(sums, numbers)
        for node in range(N):
            near = (ring[node] > 0) & (visible > 0)
            torch.testing.assert_close(readout(said, mean)[node], values[near].mean(dim=0))
        assert bool(seen.all())


@torch.no_grad()
def test_hidden_and_empty_nodes_say_nothing() -> None:
    values, visible, rings = _scene()
    values[3] = 0.0
    loud = values.clone()
    loud[0] += 9.0
    quiet, changed = _sums(values, visible, rings), _sums(loud, visible, rings)
    assert all(torch.equal(a, b) for a, b in zip(quiet[0], changed[0], strict=True))
    members = (rings * visible * (torch.arange(N) != 3)).sum(dim=2)
    torch.testing.assert_close(torch.stack(quiet[1]), members)
    nobody = neighbours(MOLECULES, 2).mean(*_sums(values, torch.zeros(N), rings))
    assert not bool(nobody[1].any()) and bool(torch.isfinite(nobody[0]).all())


@torch.no_grad()
def test_the_order_of_nodes_does_not_matter() -> None:
    values, visible, rings = _scene()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    readout = neighbours(MOLECULES, 2)
    readout.ring_weight.copy_(torch.tensor([1.0, 0.3]))
    mean, _ = readout.mean(*_sums(values, visible, rings))
    moved, _ = readout.mean(*_sums(values[order], visible[order], rings[:, order][:, :, order]))
    torch.testing.assert_close(moved, mean[order])


@torch.no_grad()
def test_shares_are_those_of_the_expected_logarithm_at_the_usual_depth() -> None:
    readout, share = neighbours(MOLECULES, 1, 40.0), torch.tensor([[0.5, 0.2, 0.15, 0.1, 0.05]])
    torch.testing.assert_close(readout.shares(torch.log1p(40 * share)), share)
    readout.log_rate.fill_(0.7)
    torch.testing.assert_close(readout.shares(torch.log1p(40 * share)), share * torch.tensor(0.7).exp())
