"""How far expression follows a direct look and how far the state: shares and levels come back, and have bounds."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aivc_graph.operators.measured import mean_there
from aivc_graph.operators.measurement.told_state import no_pairs
from aivc_graph.operators.prediction.prediction import replaced
from aivc_graph.operators.prediction.tile_fit import Seen, set_offset, set_shares
from aivc_graph.operators.state import Expected, Hidden

NODES, GENES = 400, 5


def readout() -> SimpleNamespace:
    return SimpleNamespace(
        state_share=torch.ones(()), direct_share=torch.zeros(()), offset=torch.zeros(GENES, dtype=torch.float64)
    )


def seen(state: float, look: float, noise: float = 0.1, seed: int = 0) -> Seen:
    """Return nodes of which so much is what the state says, and so much what the direct look does."""
    rng = np.random.default_rng(seed)
    said, looked = rng.normal(size=(2, NODES, GENES)) * np.linspace(0.5, 3, GENES)
    measured = 2.0 + state * said + look * looked + noise * rng.normal(size=(NODES, GENES))
    return Seen(said, looked, measured, np.zeros(NODES, np.int64))


@pytest.mark.parametrize(("state", "look"), [(0.3, 0.6), (1.0, 0.0), (0.0, 1.0)])
def test_shares_come_back(state: float, look: float) -> None:
    part = readout()
    set_shares(part, seen(state, look), state=True)
    assert part.state_share.item() == pytest.approx(state, abs=0.03)
    assert part.direct_share.item() == pytest.approx(look, abs=0.03)


def test_shares_stay_between_nothing_and_all() -> None:
    part = readout()
    set_shares(part, seen(3.0, -1.0), state=True)
    assert (part.state_share.item(), part.direct_share.item()) == pytest.approx((1.0, 0.0), abs=1e-3)


def test_where_the_state_has_no_say_or_nobody_was_seen_it_is_the_look_alone() -> None:
    for found, asked in ((seen(1.0, 0.0), False), (None, True)):
        part = readout()
        set_shares(part, found, state=asked)
        assert (part.state_share.item(), part.direct_share.item()) == (0.0, 1.0)
    set_offset(part, None, np.ones(GENES))
    assert not part.offset.any()


def test_what_was_not_measured_moves_neither_shares_nor_levels() -> None:
    whole = seen(0.3, 0.6)
    there = np.random.default_rng(1).random((NODES, GENES)) < 0.7
    spoilt = Seen(whole.state, whole.look, np.where(there, whole.measured, 1e6), whole.section, there)
    spoilt = Seen(spoilt.state, spoilt.look, np.where(there, spoilt.measured, 0.0), spoilt.section, there)
    part = readout()
    set_shares(part, spoilt, state=True)
    assert part.state_share.item() == pytest.approx(0.3, abs=0.05)
    set_offset(part, spoilt, mean_there(spoilt.measured, spoilt.there))
    np.testing.assert_allclose(part.offset.numpy(), 2.0, atol=0.15)


def test_levels_are_those_given() -> None:
    part, found = readout(), seen(0.3, 0.6)
    set_shares(part, found, state=True)
    set_offset(part, found, np.arange(GENES, dtype=float))
    told = part.offset.numpy() + part.state_share.item() * found.state + part.direct_share.item() * found.look
    np.testing.assert_allclose(told.mean(axis=0), np.arange(GENES), atol=1e-5)


def test_what_is_told_of_some_nodes_leaves_the_others_as_they_were() -> None:
    shares = torch.full((3, 2), 0.5)
    nobody = torch.zeros(3, dtype=torch.bool)
    before = Expected(shares, torch.log1p(10 * shares), nobody, torch.tensor([False, True, False]))
    here = torch.tensor([True, False, False])
    after = replaced(before, here, torch.tensor([[0.9, 0.1]] * 3), 10.0)
    assert after.looked_at.tolist() == [True, False, False] and after.around.tolist() == [False, True, False]
    assert torch.equal(after.shares[1:], shares[1:])
    torch.testing.assert_close(after.logs[0], torch.log1p(torch.tensor([9.0, 1.0])))


def test_hidden_nodes_are_not_seen_and_others_are_as_they_were_measured() -> None:
    mask = torch.tensor([1.0, 1.0, 0.0])
    hidden = Hidden(nodes={("cell", "rna"): torch.tensor([1.0, 0.0, 0.0])})
    assert hidden.seen(("cell", "rna"), mask).tolist() == [0.0, 1.0, 0.0]
    assert hidden.seen(("cell", "protein"), mask) is mask


def test_modalities_that_nothing_ties_together_are_told_by_name() -> None:
    said = str(no_pairs(("cell", "protein"), "rna"))
    assert said.startswith("cell · protein: expected some: nothing else says what one means in terms of the other")
    assert "fewer than 10 training nodes with both rna and protein" in said and "leave the protein out" in said
