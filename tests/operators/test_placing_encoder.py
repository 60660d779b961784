"""What is learnt of places: from surroundings and not from what is hidden, gaps and the rest alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aivc_graph.operators import placing_encoder
from aivc_graph.operators.placing import Places
from aivc_graph.operators.placing_encoder import _hide, around, learn_places, squares

N = 1_200


@pytest.fixture(scope="module")
def tissue() -> tuple[np.ndarray, np.ndarray, Places]:
    rng = np.random.default_rng(0)
    pos = rng.random((N, 2)) * 800
    x = np.sin(pos / 250 @ np.random.default_rng(1).normal(size=(2, 10)) + np.arange(10))
    return x + 0.4 * rng.normal(size=x.shape), pos, Places.of_nodes(pos)


def test_it_learns_where_nodes_lie_that_took_no_part(tissue: tuple[np.ndarray, np.ndarray, Places]) -> None:
    x, pos, places = tissue
    rows, asked = np.arange(1_000), np.arange(1_000, N)
    encoder = learn_places(x, pos, places, rows)
    p = torch.softmax(torch.tensor(encoder.scores(x[asked], encoder.tell_places(x, places, rows))), dim=1).numpy()
    true = p[np.arange(200), places.of[asked]] * len(places.centre)
    assert np.log(true).mean() > 0.7
    other = x.copy()
    other[asked] = 1e3
    again = learn_places(other, pos, places, rows)
    for one, two in zip(encoder.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, two)
    elsewhere = encoder.tell_places(x[np.random.default_rng(2).permutation(N)], places, rows)
    shuffled = torch.softmax(torch.tensor(encoder.scores(x[asked], elsewhere)), dim=1).numpy()
    assert np.log(shuffled[np.arange(200), places.of[asked]] * len(places.centre)).mean() < 0.0


def test_it_leaves_the_state_of_chance_as_it_was(
    tissue: tuple[np.ndarray, np.ndarray, Places], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, pos, places = tissue
    monkeypatch.setattr(placing_encoder, "STEPS", 3)
    before = torch.random.get_rng_state()
    learn_places(x, pos, places, np.arange(300))
    assert torch.equal(before, torch.random.get_rng_state())


def test_surroundings_are_means_of_near_nodes_whatever_the_piece(
    tissue: tuple[np.ndarray, np.ndarray, Places], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, _, places = tissue
    rows = np.arange(0, N, 2)
    told = around(torch.tensor(x, dtype=torch.float32), places, [rows])[0].reshape(-1, 4, 11)
    away = np.linalg.norm(places.centre[:, None] - places.centre[places.of[rows]], axis=2) / places.side
    weight = np.exp(-0.5 * (away / 1.6) ** 2)
    mean = weight @ x[rows] / (weight.sum(axis=1, keepdims=True) + 0.5)
    np.testing.assert_allclose(told[:, 1, :-1], mean, atol=1e-4)
    monkeypatch.setattr(placing_encoder, "BUDGET", 10 * len(places.centre))
    pieces = around(torch.tensor(x, dtype=torch.float32), places, [rows, rows[:50]])
    torch.testing.assert_close(pieces[0].reshape(-1, 4, 11), told, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(pieces[0], pieces[1])


def test_hidden_nodes_are_of_two_kinds_and_none_is_both(tissue: tuple[np.ndarray, np.ndarray, Places]) -> None:
    _, pos, places = tissue
    rng = np.random.default_rng(4)
    in_gap, others = zip(*(_hide(pos, places, np.arange(N), rng) for _ in range(8)), strict=True)
    assert sum(map(len, in_gap)) > 100 < sum(map(len, others))
    for one, two in zip(in_gap, others, strict=True):
        assert not np.isin(one, two).any()
        left = np.setdiff1d(np.arange(N), np.r_[one, two])
        assert places.gaps(left)[places.of[one]].all() and not places.gaps(left)[places.of[two]].any()


def test_squares_part_tissue_and_move() -> None:
    pos = np.array([[0.0, 0.0], [90.0, 0.0], [110.0, 0.0], [110.0, 120.0]])
    assert squares(pos, 100.0, np.zeros(2)).tolist() == [0, 0, 1, 2]
    assert squares(pos, 100.0, np.array([0.5, 0.0])).tolist() == [0, 1, 1, 2]
