"""Counts as mixtures of types: likeliest amounts, what tissue changes of a profile, and draws of shares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import truncnorm

from aivc_graph.operators.composition import mixture
from aivc_graph.operators.composition.mixture import (
    Prior,
    adapt,
    amounts,
    middle,
    posterior,
    reliability,
    unexplained,
)
from tests.reference import TYPES, rates, spots_of

NEVER = mixture.NEVER


def usually(present: float = 0.95, n: int = 4) -> Prior:
    return Prior(torch.full((n,), present), torch.full((n,), 1.0 / n / present))


def adapted(counts: torch.Tensor, rate: torch.Tensor, platform: float, types: float | None = None) -> torch.Tensor:
    sure = None if types is None else torch.full_like(rate, types)
    return next(adapt(counts, rate, platform, sure, (8,))).rates


@pytest.fixture(scope="module")
def tissue() -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    counts, shares = spots_of(n=150)
    return torch.from_numpy(counts), torch.from_numpy(rates()).float(), shares


def test_amounts_are_the_likeliest_of_all() -> None:
    counts, _ = spots_of(n=3, platform=0.0, depth=300)
    rate = rates()
    found = amounts(torch.from_numpy(counts), torch.from_numpy(rate).float(), steps=3000).numpy()
    for y, told in zip(counts.astype(float), found, strict=True):

        def loss(a: np.ndarray, y: np.ndarray = y) -> float:
            mean = a @ rate + 1e-12
            return float((mean - y * np.log(mean)).sum())

        best = minimize(loss, np.full(len(rate), y.sum() / 4), bounds=[(0, None)] * len(rate), tol=1e-12)
        assert loss(told) == pytest.approx(best.fun, rel=1e-5)
        assert told.sum() == pytest.approx(y.sum(), rel=1e-3)  # Poisson mixtures of profiles keep the total


def test_every_step_is_likelier_and_stays_on_the_positive_side(tissue: tuple) -> None:
    counts, rate, _ = tissue
    found, before = None, -np.inf
    for _ in range(5):
        found = amounts(counts, rate, found, steps=2)
        mean = found @ rate
        now = float((counts * mean.log() - mean).sum())
        assert (found >= 0).all() and now > before
        before = now


def test_the_platform_is_found_where_it_may_be_and_only_there(tissue: tuple) -> None:
    counts, rate, shares = tissue
    effect = np.random.default_rng(9).normal(0, 0.8, len(rate.T))
    shut, opened = adapted(counts, rate, NEVER), adapted(counts, rate, 1.0)
    torch.testing.assert_close(shut, rate)
    assert np.corrcoef((opened / rate).mean(dim=0).log().numpy(), effect)[0, 1] > 0.97
    errors = [float(((mixed(counts, one) - shares) ** 2).mean()) for one in (shut, opened)]
    assert errors[1] < 0.3 * errors[0]


def mixed(counts: torch.Tensor, rate: torch.Tensor) -> np.ndarray:
    found = amounts(counts, rate)
    return (found / found.sum(dim=1, keepdim=True)).numpy()


def test_a_profile_moves_towards_the_tissue_as_far_as_its_prior_lets_it(tissue: tuple) -> None:
    counts, rate, _ = tissue
    wrong = rate.clone()
    wrong[0, 0] *= 4.0
    gaps = [
        float((adapted(counts, wrong, 1.0, k)[0, 0] / adapted(counts, rate, 1.0, k)[0, 0]).log()) for k in (1e9, 10.0)
    ]
    assert gaps[1] < 0.7 * gaps[0]


def test_genes_never_seen_move_nothing(tissue: tuple) -> None:
    counts, rate, _ = tissue
    empty = counts.clone()
    empty[:, 5] = 0.0
    found = adapted(empty, torch.cat([rate[:, :6], torch.zeros(4, 1), rate[:, 7:]], dim=1), 1.0, 30.0)
    assert torch.isfinite(found).all() and (found[:, 5] < 0.01 * rate[:, 5]).all() and (found[:, 6] == 0).all()


def test_draws_are_shares_alone_as_in_company_and_narrower_with_more_counts(tissue: tuple) -> None:
    counts, rate, _ = tissue
    prior = usually()
    draws = posterior(counts, rate, prior)
    assert draws.shape == (len(counts), 4, mixture.DRAWS) and (draws >= 0).all()
    torch.testing.assert_close(draws.sum(dim=1), torch.ones(len(counts), mixture.DRAWS))
    torch.testing.assert_close(posterior(counts[7:8], rate, prior), draws[7:8], atol=1e-4, rtol=1e-3)
    deeper = posterior(10 * counts, rate, prior)
    assert float(deeper.std(dim=2).mean()) < 0.5 * float(draws.std(dim=2).mean())
    nothing = posterior(0 * counts[:2], rate, prior)
    assert (nothing == 0).all()


def test_draws_cover_the_truth_where_the_model_is_right() -> None:
    counts, shares = spots_of(n=200, platform=0.0, depth=300, seed=5)
    lower, upper = middle(posterior(torch.from_numpy(counts), torch.from_numpy(rates()).float(), usually(0.99)))
    inside = (lower.numpy() <= shares + 1e-6) & (shares <= upper.numpy() + 1e-6)
    assert 0.86 < inside.mean() < 0.95


def test_random_numbers_are_even_in_every_column_and_of_their_seed() -> None:
    found = mixture.stratified(40, 3, 1)
    assert ((found * 40).floor().sort(dim=0).values == torch.arange(40)[:, None]).all()
    assert torch.equal(found, mixture.stratified(40, 3, 1)) and not torch.equal(found, mixture.stratified(40, 3, 2))
    assert abs(float(torch.corrcoef(found.T)[0, 1])) < 0.5


def test_the_numbers_drawn_hardly_shift_all_patches_alike() -> None:
    """Types much alike, few counts: a chain mixes slowly. By plain numbers 0.035, and 0.046 of half as many draws."""
    random = np.random.default_rng(3)
    rate = rates()
    rate[1] = 0.6 * rate[0] + 0.4 * rate[1]
    counts = random.poisson(60 * random.dirichlet(np.full(4, 0.6), 100) @ rate).astype(np.float32)
    hill = mixture.Hill.of(torch.from_numpy(counts), torch.from_numpy(rate).float())
    told, long = (hill.draws(usually(0.5), n).mean(dim=2) for n in (mixture.DRAWS, 2000))
    assert float((told - long).mean(dim=0).abs().max()) < 0.02


def test_where_counts_say_little_shares_go_to_the_prior(tissue: tuple) -> None:
    counts, rate, _ = tissue
    few = torch.from_numpy(np.random.default_rng(0).binomial(counts.numpy().astype(int), 0.002)).float()
    kept = few.sum(dim=1) > 0
    prior = Prior(torch.full((4,), 0.95), torch.tensor([0.85, 0.05, 0.05, 0.05]))
    means = [posterior(few[kept], rate, p).mean(dim=(0, 2)) for p in (prior, usually())]
    assert float(means[0][0]) > float(means[1][0]) + 0.2


def test_a_type_that_is_seldom_there_is_mostly_nought_and_found_where_it_is(tissue: tuple) -> None:
    _, rate, _ = tissue
    random = np.random.default_rng(0)
    shares = np.where(np.arange(100)[:, None] < 20, [0.5, 0.0, 0.0, 0.5], [1.0, 0.0, 0.0, 0.0])
    counts = torch.from_numpy(random.poisson(400 * shares @ rates()).astype(np.float32))
    draws = posterior(counts, rate, Prior(torch.tensor([0.9, 0.05, 0.05, 0.2]), torch.full((4,), 0.5)))
    absent = (draws == 0).float().mean(dim=2)
    assert float(absent[:, 1:3].mean()) > 0.8 and float(absent[20:, 3].mean()) > 0.8
    assert float(absent[:20, 3].max()) == 0 and float(draws[:20, 3].mean()) == pytest.approx(0.5, abs=0.05)


def test_counts_that_scatter_more_than_poisson_are_believed_less() -> None:
    random = np.random.default_rng(0)
    mean = torch.full((400, 2), 20.0)
    scatter = np.column_stack([np.full(400, 20.0), random.gamma(2.0, 10.0, 400)])
    found = reliability(torch.from_numpy(random.poisson(scatter)).float(), mean)
    assert float(found[0]) > 0.8 and float(found[1]) == pytest.approx(1 / (1 + 20 / 2), rel=0.3)


@pytest.mark.parametrize("mean", [-30.0, -2.0, 0.5, 8.0])
def test_a_truncated_normal_has_its_quantiles(mean: float) -> None:
    scale = 1.5
    for u in (0.1, 0.5, 0.9):
        found = float(mixture._truncated(torch.tensor(mean).double(), torch.tensor(scale).double(), torch.tensor(u)))
        assert found == pytest.approx(truncnorm.ppf(u, -mean / scale, np.inf, mean, scale), rel=0.02)


def test_an_interval_leaves_as_many_draws_below_as_above_and_begins_at_zero_where_some_are() -> None:
    random = np.random.default_rng(0)
    sometimes = np.where(random.random(1000) < 0.1, 0.0, random.normal(0.5, 0.05, 1000))
    skewed, normal = random.exponential(0.05, 1000), random.normal(0.5, 0.05, 1000)
    draws = np.stack([sometimes, skewed, normal])
    found = [each[0].numpy() for each in middle(torch.from_numpy(draws[None]))]
    np.testing.assert_allclose(found, np.quantile(draws, [0.05, 0.95], axis=1), atol=1e-9)
    assert found[0][0] == 0 and found[1][0] > 0.55
    one = middle(torch.full((2, 3, 1), 0.3))
    assert (one[0] == 0.3).all() and (one[1] == 0.3).all()


def test_a_hill_looked_for_from_nearby_is_that_of_its_own_rates() -> None:
    """Other weights of genes move shares by 0.025; by the slope of these and the curvature of before, 0.012 are off."""
    random = np.random.default_rng(3)
    rate = random.gamma(1, 1, 60) * np.exp(0.7 * random.normal(size=(12, 60)))
    rate /= rate.sum(axis=1, keepdims=True)
    counts, known = (
        torch.from_numpy(each).float()
        for each in (random.poisson(1500 * random.dirichlet(np.full(12, 0.3), 60) @ rate), rate)
    )
    trust = torch.empty(60).exponential_(1.0, generator=torch.Generator().manual_seed(0))
    first = mixture.Hill.of(counts, known)
    exact = mixture.Hill.of(counts * trust, known * trust)
    near = mixture.Hill.of(counts * trust, known * trust, first.at.float())
    every = exact, near, near._replace(precision=first.precision), first
    told = [one.draws(usually(0.5, 12)).mean(dim=2) for one in every]
    own, mixed, moved = (float((one - told[0]).square().mean().sqrt()) for one in told[1:])
    assert own < 0.2 * moved and own < 0.4 * mixed


def test_what_no_type_accounts_for_is_told(tissue: tuple) -> None:
    _, rate, _ = tissue
    counts = torch.from_numpy(spots_of(n=100, platform=0.0)[0])
    assert float(unexplained(counts, amounts(counts, rate) @ rate).mean()) < 0.02
    strange = counts.clone()
    strange[:50, 50] += 0.3 * counts[:50].sum(dim=1)
    found = unexplained(strange, amounts(strange, rate) @ rate)
    assert float(found[:50].min()) > 0.12 and float(found[50:].max()) < 0.06
    assert len(TYPES) == len(rate)
