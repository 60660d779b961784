"""Distances of sets, and counts drawn by a negative binomial, against what they are by hand and by scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import gammaln, psi

from aivc_graph.operators.gate import LEAST_LEFT_OUT, QUESTIONS, Correction, Gate, opening_of
from aivc_graph.operators.measurement.distribution import negative_binomial_log_prob, negative_binomial_sample
from aivc_graph.operators.measurement.likelihood import TABLE_COUNTS, gamma_rise
from aivc_graph.operators.ridge import beyond_noise
from aivc_graph.operators.set_distance import energy_distance
from aivc_graph.tissue.evenly import evenly


def test_energy_distance_of_points_by_hand() -> None:
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0]])
    # Between: 1, 5, 1, 3 of mean 2.5; within: 0, 2, 2, 0 of mean 1, and 0, 4, 4, 0 of mean 2.
    assert float(energy_distance(x, y)) == pytest.approx(2 * 2.5 - 1 - 2)


def test_energy_distance_is_none_of_a_set_from_itself_and_does_not_mind_order_or_motion() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(20, 3, generator=generator), torch.rand(15, 3, generator=generator) + 0.5
    assert float(energy_distance(x, x[torch.randperm(20, generator=generator)])) == pytest.approx(0.0, abs=1e-6)
    whole = float(energy_distance(x, y))
    turn = torch.linalg.qr(torch.rand(3, 3, generator=generator))[0]
    assert float(energy_distance(x @ turn + 4, y @ turn + 4)) == pytest.approx(whole, abs=1e-4)
    assert float(energy_distance(y, x)) == pytest.approx(whole) and whole > 0


def test_log_probabilities_of_counts_are_those_of_scipy() -> None:
    counts = torch.tensor([[0.0, 1.0, 7.0], [400.0, 3.0, 0.0]], dtype=torch.float64)
    rate = torch.tensor([[0.5, 2.0, 9.0], [300.0, 1e-3, 4.0]], dtype=torch.float64)
    theta = torch.tensor([0.2, 1.0, 50.0], dtype=torch.float64)
    found = negative_binomial_log_prob(counts, rate, theta.log())
    expected = stats.nbinom.logpmf(counts.numpy(), theta.numpy(), theta.numpy() / (theta.numpy() + rate.numpy()))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8)


def test_draws_of_counts_have_the_mean_and_the_spread_of_their_law() -> None:
    rate, theta = torch.tensor([4.0, 20.0]).expand(20_000, 2), torch.tensor([1.0, 8.0])
    drawn = negative_binomial_sample(rate, theta.log(), torch.Generator().manual_seed(0)).numpy()
    assert drawn.mean(axis=0) == pytest.approx([4.0, 20.0], rel=0.03)
    assert drawn.var(axis=0) == pytest.approx([4 + 16 / 1.0, 20 + 400 / 8.0], rel=0.06)


def test_rises_of_the_gamma_function_agree_on_both_sides_of_the_table() -> None:
    theta = torch.tensor([0.3, 2.0, 700.0], dtype=torch.float64)
    y = torch.tensor([0.0, 1.0, TABLE_COUNTS - 1, TABLE_COUNTS, TABLE_COUNTS + 1, 5_000.0], dtype=torch.float64)
    for molecule in range(3):
        rise, slope = gamma_rise(y, torch.full((len(y),), molecule), theta)
        t = theta[molecule].item()
        np.testing.assert_allclose(rise.numpy(), gammaln(y.numpy() + t) - gammaln(t), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(slope.numpy(), psi(y.numpy() + t) - psi(t), rtol=1e-9, atol=1e-9)


def test_a_departure_is_let_through_as_far_as_its_gain_is_sure() -> None:
    rng = np.random.default_rng(0)
    assert opening_of(np.full(10, 0.2)) == 1.0  # all gain alike
    assert opening_of(rng.normal(0.0, 1.0, 1000) - 0.1) == 0.0 and opening_of(np.ones(LEAST_LEFT_OUT - 1)) == 0.0
    gains = rng.normal(0.5, 1.0, 60)
    shut = 1 - gains.var(ddof=1) / 60 / gains.mean() ** 2
    assert opening_of(gains) == pytest.approx(shut) and 0 < shut < 1
    assert opening_of(3 * gains) == pytest.approx(shut)  # whatever the unit
    assert opening_of(np.array([1.0, -1.0, 1.2, -0.9])) == 0.0


def test_a_correction_starts_silent_and_is_let_through_question_by_question() -> None:
    torch.manual_seed(0)
    part, seen = Correction(4, 2), (torch.rand(5, 2), torch.rand(5, 2))
    assert not part(*seen).any()
    with torch.no_grad():
        part.hidden[-1].weight.normal_()
    whole = part(*seen)
    part.gate.opening.copy_(torch.tensor([0.0, 0.5, 1.0]))
    for question, opening in enumerate((0.0, 0.5, 1.0)):
        part.gate.question = question
        torch.testing.assert_close(part(*seen), opening * whole)
    assert len(QUESTIONS) == 3 and "opening" in dict(Gate().named_buffers())  # chosen, never learnt


def test_errors_beyond_noise_are_never_below_a_twentieth_of_what_is_left() -> None:
    residual = np.array([1.0, 1.0, 0.0])
    np.testing.assert_allclose(beyond_noise(residual, np.array([0.4, 2.0, 0.0])), [0.6, 0.05 + 1e-6, 1e-6])
    np.testing.assert_allclose(beyond_noise(residual, 0.0), np.maximum(residual, 1e-6))


@pytest.mark.parametrize(("n", "most"), [(10, 4), (4, 10), (7, 7), (1, 3), (0, 5), (100_000, 3)])
def test_rows_are_taken_evenly_the_first_and_the_last_among_them(n: int, most: int) -> None:
    rows = evenly(n, most)
    assert len(rows) == min(n, most) == len(set(rows.tolist()))
    if n:
        assert rows[0] == 0 and rows[-1] == (n - 1 if min(n, most) > 1 else 0)
        assert np.ptp(np.diff(rows)) <= 1 if len(rows) > 2 else True
